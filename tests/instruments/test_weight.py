from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from tests.instruments.sample import draw, exact, read
from vario.instruments.weight import Weight


def test_norm_and_spread_equal_those_of_numpy() -> None:
    weights = {"a": nn.Parameter(draw(40, 50)), "gain": nn.Parameter(1 + draw(64, scale=1e-3, seed=1))}
    found = read(Weight(), params=list(weights.values()), names=list(weights))
    for name, weight in weights.items():
        values = exact(weight).ravel()
        assert found["weight/norm", name] == pytest.approx((values @ values) ** 0.5, rel=1e-6)
        assert found["weight/std", name] == pytest.approx(values.std(), rel=1e-3)
        assert found["weight/non_finite", name] == 0
    whole = torch.cat([weight.detach().reshape(-1) for weight in weights.values()])
    assert found["weight/norm", ""] == pytest.approx(float(whole.double().norm()), rel=1e-6)
    assert found["weight/std", ""] == pytest.approx(exact(whole).std(), rel=1e-5)


def test_weights_that_are_not_finite_are_counted_where_they_are() -> None:
    weights = [nn.Parameter(torch.tensor([1.0, math.nan, math.inf])), nn.Parameter(torch.ones(2))]
    found = read(Weight(), params=weights, names=["bad", "good"])
    assert [found["weight/non_finite", where] for where in ("bad", "good", "")] == [2, 0, 2]
    assert math.isnan(found["weight/norm", "bad"]) and found["weight/norm", "good"] == pytest.approx(2**0.5)


def test_it_is_silent_without_parameters() -> None:
    assert read(Weight()) == read(Weight(), params=[], names=[]) == {}
