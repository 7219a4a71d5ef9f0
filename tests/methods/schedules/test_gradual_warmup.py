"""Test ``vario.methods.schedules.gradual_warmup``."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from vario.methods.schedules import GradualWarmup


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
