"""Stability limits against descent on a quadratic bowl: stable just below, unstable just above."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from vario.capture.curvature.kept import KeptGraph
from vario.capture.curvature.measures import Step, limit
from vario.capture.curvature.rates import rates
from vario.nouns import NotApplicable

CURVATURES = torch.tensor([4.0, 1.0, 0.25], dtype=torch.float64)


def bowl(weights: torch.Tensor) -> torch.Tensor:
    return 0.5 * (CURVATURES * weights**2).sum()


def share(make: Any, lr: float, *, warm: int = 1) -> tuple[float, float, float, nn.Parameter, Any]:
    weights = nn.Parameter(torch.ones(3, dtype=torch.float64))
    optimizer = make([weights], lr=lr)
    for _ in range(warm):
        optimizer.zero_grad()
        bowl(weights).backward()
        optimizer.step()
    with KeptGraph(bowl(weights), {id(weights): "w"}) as kept:
        found = limit(Step(kept, [weights], optimizer=optimizer))
    return found.share, found.share_high, found.rates[0], weights, optimizer


SGDS = {
    "plain": (lambda p, lr: torch.optim.SGD(p, lr=lr), 2 / 4),
    "momentum": (lambda p, lr: torch.optim.SGD(p, lr=lr, momentum=0.9), 3.8 / 4),
    "nesterov": (lambda p, lr: torch.optim.SGD(p, lr=lr, momentum=0.9, nesterov=True), 3.8 / 2.8 / 4),
    "dampening": (lambda p, lr: torch.optim.SGD(p, lr=lr, momentum=0.9, dampening=0.5), 3.8 / 0.5 / 4),
    "decay": (lambda p, lr: torch.optim.SGD(p, lr=lr, weight_decay=1.0), 2 / 5),
}


@pytest.mark.parametrize("name", SGDS)
def test_descent_diverges_just_above_the_limit_and_not_below(name: str) -> None:
    make, expected = SGDS[name]
    found, high, rate, *_ = share(make, 1e-3)
    assert found <= 1e-3 / expected * (1 + 1e-9) and high >= 1e-3 / expected * (1 - 1e-9)
    assert rate == pytest.approx(expected, rel=0.02)
    lengths = {}
    for factor in (0.98, 1.02):
        *_, weights, optimizer = share(make, factor * expected, warm=600)
        lengths[factor] = float(weights.detach().norm())
        assert optimizer.param_groups[0]["lr"] == factor * expected
    assert lengths[0.98] < 1 < 1e2 < lengths[1.02]


def test_adams_limit_is_that_of_frozen_preconditioned_momentum() -> None:
    """With its divisors frozen Adam is linear: the same recursion by hand, below and above the limit."""
    found, high, rate, weights, optimizer = share(
        lambda p, lr: torch.optim.Adam(p, lr=lr, betas=(0.9, 0.99)), 1e-3, warm=20
    )
    state = optimizer.state[weights]
    divisor = (state["exp_avg_sq"] / (1 - 0.99 ** float(state["step"]))).sqrt() + 1e-8
    largest = float((CURVATURES / divisor).max())
    assert found * (1 - 1e-9) <= 1e-3 * largest / 38 <= high * (1 + 1e-6)
    for factor, grows in ((0.97, False), (1.03, True)):
        w, m = torch.ones(3, dtype=torch.float64), torch.zeros(3, dtype=torch.float64)
        for _ in range(600):
            m = 0.9 * m + 0.1 * CURVATURES * w
            w = w - factor * rate * m / divisor
        assert bool(w.norm() > 2) is grows


def test_rmsprop_and_adagrad_divide_by_what_they_hold() -> None:
    for make in (
        lambda p, lr: torch.optim.RMSprop(p, lr=lr, centered=True),
        lambda p, lr: torch.optim.Adagrad(p, lr=lr, lr_decay=0.1),
    ):
        weights = nn.Parameter(torch.ones(3, dtype=torch.float64))
        optimizer = make([weights], lr=1e-2)
        moved = []
        for _ in range(3):
            optimizer.zero_grad()
            bowl(weights).backward()
            before = weights.detach().clone()
            optimizer.step()
            moved.append((before - weights.detach()) / weights.grad)
        again = rates(optimizer, [weights]).scales[0]  # after the last step: what it just multiplied by
        torch.testing.assert_close(
            again, moved[-1], rtol=0.2 if isinstance(optimizer, torch.optim.Adagrad) else 1e-6, atol=0
        )


def test_what_is_not_known_is_refused() -> None:
    weights = nn.Parameter(torch.ones(2))
    for optimizer, reason in (
        (torch.optim.NAdam([weights]), "NAdam is not known"),
        (torch.optim.Adam([weights]), "not taken a step"),
        (torch.optim.RMSprop([weights]), "not taken a step"),
        (torch.optim.SGD([weights], lr=1.0, maximize=True), "climbs"),
    ):
        with pytest.raises(NotApplicable, match=reason):
            rates(optimizer, [weights])
    other = nn.Parameter(torch.ones(2))
    groups = [{"params": [weights], "momentum": 0.9}, {"params": [other], "momentum": 0.5}]
    with pytest.raises(NotApplicable, match="different momenta"):
        rates(torch.optim.SGD(groups, lr=1.0), [weights, other])
