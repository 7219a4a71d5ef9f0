from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from tests.instruments.sample import draw, exact, read
from vario.instruments.update import Update


def test_plain_descent_moves_by_the_rate_times_the_gradient() -> None:
    weights = [nn.Parameter(draw(300, 700)), nn.Parameter(draw(9, seed=1)), nn.Parameter(torch.zeros(2))]
    before = [weight.detach().clone() for weight in weights]
    for seed, weight in enumerate(weights):
        weight.grad = draw(*weight.shape, seed=5 + seed)
    torch.optim.SGD(weights, lr=0.01).step()
    found = read(Update(), params=weights, names=["a", "b", "zero"], weights_before=before)
    for name, weight, old in zip("ab", weights, before, strict=False):
        step = 0.01 * float(weight.grad.double().norm())  # type: ignore[union-attr]
        assert found["update/norm", name] == pytest.approx(step, rel=1e-4)
        assert found["update/ratio", name] == pytest.approx(step / np.linalg.norm(exact(old)), rel=1e-4)
    whole = 0.01 * math.sqrt(sum(float(w.grad.double().norm()) ** 2 for w in weights))  # type: ignore[union-attr]
    assert found["update/norm", ""] == pytest.approx(whole, rel=1e-4)
    assert found["update/norm", "zero"] > 0
    assert ("update/ratio", "zero") not in found, "weights that were all zero have no length to compare with"


def test_a_parameter_that_stays_has_an_update_of_zero() -> None:
    weight = nn.Parameter(draw(5))
    found = read(Update(), params=[weight], names=["a"], weights_before=[weight.detach().clone()])
    assert (found["update/norm", "a"], found["update/ratio", "a"]) == (0.0, 0.0)


def test_the_difference_is_taken_in_single_precision_or_better() -> None:
    old = torch.full((64,), 256.0, dtype=torch.bfloat16)
    weight = nn.Parameter(old + 2)
    found = read(Update(), params=[weight], names=["a"], weights_before=[old])
    assert found["update/norm", "a"] == pytest.approx(16.0)
    assert found["update/ratio", "a"] == pytest.approx(2 / 256, rel=1e-6)


def test_it_is_silent_without_the_weights_from_before() -> None:
    assert read(Update(), params=[nn.Parameter(torch.ones(2))], names=["a"]) == {}
