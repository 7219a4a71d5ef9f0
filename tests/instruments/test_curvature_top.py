from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from tests.instruments.curvature_sample import F64, bowl, least_squares, measured
from tests.instruments.sample import read
from vario.instruments.curvature_top import CurvatureTop


def ends(loss: torch.Tensor, *params: torch.Tensor) -> dict[str, float]:
    found = read(CurvatureTop(), **measured("curvature_ends", loss, params))
    return {series.removeprefix("curvature/"): value for (series, _), value in found.items()}


def test_least_squares() -> None:
    for seed in range(5):
        weights, loss, truth = least_squares(40, 12, seed)
        values = torch.linalg.eigvalsh(truth)
        found = ends(loss, weights)
        assert found["top"] == pytest.approx(float(values[-1]), rel=0.01)
        assert found["top"] <= float(values[-1]) * (1 + 1e-9) and found["top_high"] >= float(values[-1])
        assert found["bottom"] >= float(values[0]) * (1 - 1e-9)
        assert float(values[0]) * (1 + 1e-9) >= found["bottom_low"]


def test_a_bowl_and_a_saddle() -> None:
    weights, loss = bowl([4.0, 1.0, -0.5])
    found = ends(loss, weights)
    assert (found["top"], found["bottom"]) == (pytest.approx(4.0, rel=0.01), pytest.approx(-0.5, rel=0.1))


@pytest.mark.parametrize("factors", [(2.0, 0.5), (1.5, 0.8, 1 / 1.2), (3.0, 1.0, 0.5, 1 / 1.5)])
def test_a_linear_network_at_its_optimum(factors: tuple[float, ...]) -> None:
    """Half the square of (w1 ... wL - 1): at the optimum it is g g', g_i the product of the others."""
    weights = [nn.Parameter(torch.tensor(w, dtype=F64)) for w in factors]
    product = math.prod(factors)
    loss = 0.5 * (torch.stack(list(weights)).prod() - 1) ** 2
    truth = sum((product / w) ** 2 for w in factors)
    assert ends(loss, *weights)["top"] == pytest.approx(truth, rel=1e-6)


def test_silence_without_the_need() -> None:
    assert read(CurvatureTop()) == {}
