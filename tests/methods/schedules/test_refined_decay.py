"""Test ``vario.methods.schedules.refined_decay``."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from vario.methods.schedules import RefinedDecay, refined_factors


def test_equal_norms_are_linear_decay():
    """P029, accept: within 1e-12."""
    for steps in (2, 17, 1000):
        expected = 1 - torch.arange(steps, dtype=torch.float64) / (steps - 1)
        assert (refined_factors([3.7] * steps, steps) - expected).abs().max() < 1e-12


@pytest.mark.parametrize("power", [1.0, 2.0])
def test_follows_the_equation(power):
    norms = torch.rand(40, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 0.1
    w = [g**-power for g in norms.tolist()]
    raw = [w[t] * sum(w[t + 1 :]) for t in range(40)]
    expected = torch.tensor([r / max(raw) for r in raw], dtype=torch.float64)
    torch.testing.assert_close(
        refined_factors(norms, 40, power=power, smooth=0.0), expected, rtol=1e-12, atol=1e-14
    )


def test_median_removes_a_spike_and_keeps_a_step():
    norms = [4.0] * 50 + [2.0] * 50
    spiked = list(norms)
    spiked[20] = 1e6
    assert torch.equal(refined_factors(norms, 100), refined_factors(spiked, 100))
    assert not torch.equal(refined_factors(norms, 100, smooth=0), refined_factors(spiked, 100, smooth=0))


def test_falling_norms_warm_up():
    factors = refined_factors(torch.linspace(10, 1, 200), 200)
    peak = int(factors.argmax())
    assert peak > 100 and factors[0] < 0.1 and factors[-1] == 0


def test_scale_of_the_norms_and_sparse_recording_do_not_matter():
    norms = torch.linspace(5, 1, 101, dtype=torch.float64)
    one = refined_factors(norms, 101, smooth=0)
    torch.testing.assert_close(refined_factors(norms * 1e6, 101, smooth=0), one, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(refined_factors(norms[::10], 101, smooth=0), one, rtol=1e-10, atol=1e-12)


def test_refuses():
    for norms, match in (([], "at least two"), ([1.0, math.nan], "finite"), ([0.0, 0.0], "all zero")):
        with pytest.raises(ValueError, match=match):
            refined_factors(norms, 10)


def test_zero_rate_after_the_end():
    optimizer = torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=1.0)
    schedule = RefinedDecay(optimizer, 3)
    for _ in range(5):
        optimizer.step()
        schedule.step()
    assert optimizer.param_groups[0]["lr"] == 0.0


def logistic(make_factors, seed, lr, steps=2000, batch=4):
    """Final training loss of averaged-gradient SGD, and its gradient norms, on breast cancer."""
    datasets = pytest.importorskip("sklearn.datasets")
    x, y = (torch.as_tensor(a, dtype=torch.float64) for a in datasets.load_breast_cancer(return_X_y=True))
    x = (x - x.mean(0)) / x.std(0)
    draw, w, norms = torch.Generator().manual_seed(seed), torch.zeros(30, dtype=torch.float64), []
    for factor in make_factors(steps):
        pick = torch.randint(len(x), (batch,), generator=draw)
        grad = x[pick].T @ (torch.sigmoid(x[pick] @ w) - y[pick]) / batch
        norms.append(grad.norm().item())
        w = w - lr * factor * grad
    return nn.functional.binary_cross_entropy_with_logits(x @ w, y).item(), norms


@pytest.mark.slow
def test_linear_decay_beats_constant():
    """P029, accept: tuned rates, 8 seeds: linear <= cosine < constant, linear at least 4 % below constant."""
    schedules = {
        "constant": lambda n: [1.0] * n,
        "cosine": lambda n: [0.5 + 0.5 * math.cos(math.pi * t / n) for t in range(n)],
        "linear": lambda n: refined_factors([1.0] * n, n).tolist(),
    }
    best = {}
    for name, make in schedules.items():
        best[name] = min(
            sum(logistic(make, seed, lr)[0] for seed in range(60, 68)) / 8
            for lr in (0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2)
        )
    assert best["linear"] <= best["cosine"] * 1.02  # equal up to the noise of eight seeds
    assert best["cosine"] < best["constant"] and best["linear"] <= 0.96 * best["constant"]
