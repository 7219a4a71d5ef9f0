"""Test ``vario.instruments.example_gradients``."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from tests.instruments.sample import draw, read
from vario.capture.per_example.probe import ExampleGradients as Found
from vario.capture.per_example.probe import Probe
from vario.instruments.example_gradients import ExampleGradients


def test_the_gradients_of_a_linear_model_are_its_inputs() -> None:
    model, x = nn.Linear(3, 1, bias=False), draw(11, 3)
    probe = Probe((loss := model(x).mean()), {id(model.weight): "weight"}, examples=11)
    loss.backward()
    found = read(ExampleGradients(), example_gradients=probe.close())
    norms = np.sort(x.norm(dim=1).numpy())
    assert found["example_gradients/norm_quantiles", ""] == pytest.approx(norms, rel=1e-5)
    even = norms.mean() ** 2 / (norms**2).mean()
    assert found["example_gradients/even", ""] == pytest.approx(even, rel=1e-5)
    assert found["example_gradients/looked_at", ""] == 11


def test_one_example_that_does_all_has_one_part_in_n() -> None:
    squares = {"w": torch.tensor([1.0, 0, 0, 0, 0, 0, 0, 0])}
    found = read(ExampleGradients(), example_gradients=Found(8, squares, {"w": torch.ones(())}))
    assert found["example_gradients/even", ""] == pytest.approx(1 / 8)


def test_drawing_by_norm_has_the_variance_that_it_says() -> None:
    """P010: with p_i in proportion to the norm, E|g_i / (n p_i)|^2 = (mean norm)^2."""
    rows = draw(1000, 5).double() * draw(1000, 1, seed=1).double().exp()
    norms = rows.norm(dim=1)
    share = norms / norms.sum()
    picked = torch.multinomial(share, 20_000, replacement=True, generator=torch.Generator().manual_seed(0))
    drawn = rows[picked] / (len(rows) * share[picked, None])
    found = read(
        ExampleGradients(),
        example_gradients=Found(
            1000, {"w": (rows / 1000).square().sum(dim=1)}, {"w": rows.mean(0).square().sum()}
        ),
    )
    second = float(norms.square().mean()) * found["example_gradients/even", ""]
    assert float(drawn.square().sum(dim=1).mean()) == pytest.approx(second, rel=1e-6)
    assert float(drawn.mean(dim=0).sub(rows.mean(dim=0)).norm()) < 4 * (second / 20_000) ** 0.5


@pytest.mark.parametrize("squares", [[1.0, 2.0], [0.0] * 8, [float("nan")] * 8])
def test_it_is_silent_where_there_is_nothing_to_say(squares: list[float]) -> None:
    found = Found(len(squares), {"w": torch.tensor(squares)}, {"w": torch.ones(())})
    assert read(ExampleGradients(), example_gradients=found) == read(ExampleGradients()) == {}
