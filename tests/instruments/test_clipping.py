from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from tests.instruments.sample import draw, read
from vario.instruments.clipping import Clipping


@pytest.mark.parametrize("limit", [0.1, 1e9])
def test_the_factor_is_the_one_that_torch_multiplied_by(limit: float) -> None:
    weight = nn.Parameter(draw(50))
    weight.grad = draw(50, seed=1)
    before = weight.grad.clone()
    norm = torch.nn.utils.clip_grad_norm_([weight], limit)
    found = read(Clipping(), clip=(norm, limit))
    assert found["clipping/norm_before", ""] == pytest.approx(float(before.norm()))
    assert torch.allclose(weight.grad, before * found["clipping/factor", ""], rtol=1e-6)
    assert (found["clipping/factor", ""] == 1.0) == (limit == 1e9)


def test_a_norm_that_is_not_a_number_gives_no_false_factor() -> None:
    assert math.isnan(read(Clipping(), clip=(math.nan, 1.0))["clipping/factor", ""])


def test_it_is_silent_where_nothing_clips() -> None:
    assert read(Clipping()) == {}
