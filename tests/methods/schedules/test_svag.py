"""Test ``vario.methods.schedules.svag``."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.methods.schedules.test_scale_batch import teacher_losses
from vario.methods.schedules import scale_batch, svag


@pytest.mark.parametrize("splits", [2, 8])
def test_keeps_the_mean_and_multiplies_the_variance(splits):
    draw = torch.Generator().manual_seed(0)
    one, two = (3 + torch.randn(50_000, generator=draw, dtype=torch.float64) for _ in range(2))
    (found,) = svag([one], [two], splits=splits)
    assert abs(found.mean() - 3) < 4 * (splits / 50_000) ** 0.5
    assert found.var().item() == pytest.approx(splits, rel=0.02)
    root = (2 * splits - 1) ** 0.5
    torch.testing.assert_close(found, (1 + root) / 2 * one + (1 - root) / 2 * two)


def test_one_split_is_adam():
    """P298, accept: l = 1 equals Adam exactly."""
    draw, ends = torch.Generator().manual_seed(1), []
    grads = [torch.randn(2, 5, generator=draw) for _ in range(20)]
    for around in (False, True):
        w = nn.Parameter(torch.ones(5))
        optimizer = torch.optim.Adam([w], lr=0.01)
        if around:
            scale_batch(optimizer, 1.0)
        for first, second in grads:
            w.grad = svag([first], [second], splits=1)[0] if around else first
            optimizer.step()
        ends.append(w.detach())
    assert torch.equal(*ends)


def test_refuses():
    with pytest.raises(ValueError, match="at least 1"):
        svag([], [], splits=0.5)


@pytest.mark.slow
def test_svag_agrees_with_its_finer_self_where_noise_dominates():
    """P298: at a batch of 16, l = 4 keeps the course of l = 1 as closely as the square-root rule has to
    (0.05); the gradients of one fixed batch have no noise, so there the rule does not apply: at l = 4 Adam
    goes twice as far, and the two courses tell."""
    one, four = (teacher_losses("square-root", 16, 470 + s, splits=s) for s in (1, 4))
    assert (four / one).log().abs().mean() <= 0.05
    calm = [teacher_losses("square-root", 16, 470, runs=8, splits=s, noise=0.0) for s in (1, 4)]
    assert (calm[1] / calm[0]).log().abs().mean() >= 0.08
