from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.instruments.sample import read
from vario.instruments.gradient_carried import GradientCarried


def carried(before: float | None, grad: torch.Tensor) -> dict[tuple[str, str], float]:
    return read(GradientCarried(), carried=before, names=["a"], grads=[grad])


def test_a_gradient_that_is_never_cleared_carries_more_and_more() -> None:
    """The k-th step of a constant gradient g finds (k - 1) g and leaves k g."""
    weight = nn.Parameter(torch.ones(3))
    for k in range(1, 5):
        before = 0.0 if weight.grad is None else float(weight.grad.norm())
        weight.sum().backward()
        assert weight.grad is not None
        assert carried(before, weight.grad)["gradient/carried", ""] == pytest.approx((k - 1) / k)


def test_it_is_silent_where_the_share_has_no_meaning() -> None:
    assert carried(None, torch.ones(2)) == {}
    assert carried(1.0, torch.zeros(2)) == {}
    assert carried(1.0, torch.tensor([float("nan")])) == {}
    assert read(GradientCarried(), carried=1.0) == {}
