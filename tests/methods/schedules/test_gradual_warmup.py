"""Test ``vario.methods.schedules.gradual_warmup``."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from vario.methods.schedules import GradualWarmup, scale_batch


def test_equals_the_closed_form_at_every_step():
    optimizer = torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=1.6)
    schedule = GradualWarmup(optimizer, 16, warmup_steps=50)
    for step in range(80):
        expected = 0.1 + (1.6 - 0.1) * min(step / 50, 1)
        assert optimizer.param_groups[0]["lr"] == pytest.approx(expected, rel=1e-12)
        optimizer.step()
        schedule.step()


def test_factor_one_is_no_warmup():
    optimizer = torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=0.3)
    GradualWarmup(optimizer, 1, warmup_steps=5)
    assert optimizer.param_groups[0]["lr"] == 0.3


def test_refuses():
    optimizer = torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=0.3)
    with pytest.raises(ValueError, match="must be positive"):
        GradualWarmup(optimizer, 0, warmup_steps=5)
    with pytest.raises(ValueError, match="five epochs"):
        GradualWarmup(optimizer, 2, warmup_steps=0)


def final_loss(factor, lr, seed, *, scaled=True, warmup=0, momentum=0.9, epochs=20):
    """Training loss after equal epochs: MNIST-5k, batch 16 x factor, SGD with momentum."""
    from tests.methods.digits import mnist, network

    x, y, *_ = mnist()
    model, draw = network(seed), torch.Generator().manual_seed(seed)
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=momentum)
    if scaled:
        scale_batch(optimizer, factor, rule="linear")
    updates = len(x) // (16 * factor)
    schedule = GradualWarmup(optimizer, factor, warmup_steps=warmup * updates) if warmup else None
    for _ in range(epochs):
        for batch in torch.randperm(len(x), generator=draw)[: updates * 16 * factor].split(16 * factor):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x[batch]), y[batch]).backward()
            optimizer.step()
            if schedule is not None:
                schedule.step()
    with torch.no_grad():
        return nn.functional.cross_entropy(model(x), y).item()


@pytest.mark.slow
def test_large_batch_keeps_the_loss_of_the_small_one():
    """P248, accept: factor 16, equal epochs: loss within 10 % with rule and warm-up, off by more than 25 %
    without scaling."""
    base = final_loss(1, 0.001, 291)
    ruled = final_loss(16, 0.001, 291, warmup=5)
    kept = final_loss(16, 0.001, 291, scaled=False)
    print(base, ruled, kept)
    assert abs(ruled / base - 1) < 0.10 and kept / base - 1 > 0.25, (base, ruled, kept)


@pytest.mark.slow
def test_warmup_saves_a_rate_at_which_its_lack_diverges():
    """P248, accept: at least one rate; diverged: worse than knowing nothing (log 10), or not a number."""
    rates = [0.04 * 2 ** (k / 2) for k in range(9)]
    pairs = [
        (final_loss(16, lr, 292, epochs=10), final_loss(16, lr, 292, warmup=5, epochs=10)) for lr in rates
    ]
    print(pairs)
    assert any(not bare < math.log(10) and warm < math.log(10) for bare, warm in pairs), pairs
