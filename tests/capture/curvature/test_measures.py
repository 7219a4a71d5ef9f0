"""Test where the search for an end of the spectrum begins (``vario.capture.curvature.measures``)."""

from __future__ import annotations

import pytest
import torch

from tests.instruments.curvature_sample import F64, bowl, step_of
from vario.capture.curvature.measures import Step, ends

VALUES = [*torch.linspace(0, 1, 300, dtype=F64).tolist(), 1.3, 1.6, 2.0, 2.6, 3.2, 4.0]


def axis(place: int) -> torch.Tensor:
    """An eigenvector of the bowl."""
    vector = torch.zeros(len(VALUES), dtype=F64)
    vector[place] = 1.0
    return vector


def search(**found: torch.Tensor) -> tuple[Step, float, int]:
    """The step, the largest eigenvalue, and the products that it took."""
    weights, loss = bowl(VALUES)
    with step_of(loss, [weights], found=found) as step:
        pair = step.end("top", step.kept.hessian, step.kept.gradient())
        return step, pair.value, pair.products


def test_what_was_found_before_saves_products() -> None:
    cold, value, products = search()
    assert value == pytest.approx(4.0, rel=0.01) and products >= 8
    again, value, fewer = search(top=cold.found["top"])
    assert value == pytest.approx(4.0, rel=0.01) and fewer <= products - 2
    assert abs(float(again.found["top"] @ axis(-1))) > 0.99


@pytest.mark.parametrize("place", [0, -2, -5])
def test_another_eigenvector_is_left_again(place: int) -> None:
    assert search(top=axis(place))[1] == pytest.approx(4.0, rel=0.02)


@pytest.mark.parametrize("known", [torch.zeros(len(VALUES)), torch.full((len(VALUES),), torch.nan)])
def test_a_start_that_says_nothing_is_random(known: torch.Tensor) -> None:
    assert search(top=known.to(F64))[1] == pytest.approx(4.0, rel=0.02)
    assert search(top=axis(0)[:7])[1] == pytest.approx(4.0, rel=0.02)


def test_at_a_minimum_there_is_no_gradient_to_begin_with() -> None:
    weights, _ = bowl([2.0, 1.0, 0.5])
    with torch.no_grad():
        weights.zero_()
    loss = 0.5 * (torch.tensor([2.0, 1.0, 0.5], dtype=F64) * weights**2).sum()
    with step_of(loss, [weights]) as step:
        found = ends(step)
    assert found.top == pytest.approx(2.0) and found.bottom == pytest.approx(0.5)
