"""Test ``vario.methods.posthoc.online_platt``."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.optimize import minimize

from vario.methods.posthoc import OnlinePlatt
from vario.methods.posthoc.online_platt import _inside


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def stream(logits, labels, **settings):
    """Probabilities before and after calibeating."""
    calibrator, scaled, answered = OnlinePlatt(**settings), [], []
    for x, y in zip(logits, labels, strict=True):
        answered.append(calibrator.predict(sigmoid(x)))
        scaled.append(calibrator.scaled)
        calibrator.update(int(y))
    return scaled, answered, calibrator


def log_loss(p, y):
    p = torch.tensor(p, dtype=torch.float64).clamp(1e-9, 1 - 1e-9)
    return float(torch.nn.functional.binary_cross_entropy(p, torch.tensor(y, dtype=torch.float64)))


def error(p, y):
    """Expected calibration error over ten equal bins."""
    p, y = torch.tensor(p, dtype=torch.float64), torch.tensor(y, dtype=torch.float64)
    place = (p * 10).long().clamp(max=9)
    return float(torch.zeros(10, dtype=torch.float64).index_add_(0, place, y - p).abs().sum() / len(p))


def test_follows_the_newton_step():
    draw = torch.Generator().manual_seed(0)
    xs = torch.randn(30, generator=draw, dtype=torch.float64)
    ys = torch.randint(2, (30,), generator=draw)
    theta, outer = torch.tensor([1.0, 0.0], dtype=torch.float64), 100 * torch.eye(2, dtype=torch.float64)
    calibrator = OnlinePlatt(beta=0.1, distance=1.0)
    means, counts = [(k + 0.5) / 10 for k in range(10)], [1] * 10
    for x, y in zip(xs.tolist(), ys.tolist(), strict=True):
        p = sigmoid(float(theta[0]) * x + float(theta[1]))
        k = min(int(10 * p), 9)
        assert calibrator.predict(sigmoid(x)) == pytest.approx(means[k], rel=1e-9)
        assert calibrator.scaled == pytest.approx(p, rel=1e-9)
        calibrator.update(y)
        means[k], counts[k] = (means[k] * counts[k] + y) / (counts[k] + 1), counts[k] + 1
        g = (p - y) * torch.tensor([x, 1.0], dtype=torch.float64)
        outer = outer + torch.outer(g, g)
        theta = theta - torch.linalg.inv(outer) @ g / 0.1
        assert calibrator.theta == pytest.approx(theta.tolist(), rel=1e-9, abs=1e-9)


def test_stays_inside_the_ball():
    outer = torch.tensor([[4.0, 1.0], [1.0, 2.0]], dtype=torch.float64)
    theta = torch.tensor([300.0, -50.0], dtype=torch.float64)
    found = _inside(theta, outer)

    def cost(angle):
        x = 100 * torch.tensor([math.cos(angle[0]), math.sin(angle[0])], dtype=torch.float64)
        return float((x - theta) @ outer @ (x - theta))

    assert float(found.norm()) == pytest.approx(100.0, rel=1e-9)
    assert float((found - theta) @ outer @ (found - theta)) <= minimize(cost, [0.0]).fun * (1 + 1e-9)
    assert torch.equal(_inside(theta / 10, outer), theta / 10)


def test_follows_a_drift():
    """P273, accept: log loss within 1.5 % of the oracle and >= 15 % below a fixed Platt fit."""
    draw = torch.Generator().manual_seed(71)
    n = 6000
    xs = 2 * torch.randn(n, generator=draw, dtype=torch.float64)
    shift = 2 * torch.linspace(-1, 1, n, dtype=torch.float64)
    true = torch.sigmoid(0.7 * xs + shift)
    ys = (torch.rand(n, generator=draw, dtype=torch.float64) < true).long().tolist()
    scaled, _, _ = stream(xs.tolist(), ys)
    fixed = fit(xs[:1000], ys[:1000])
    plain = torch.sigmoid(fixed[0] * xs + fixed[1]).tolist()
    late = slice(1000, n)
    ours, oracle, old = (log_loss(p[late], ys[late]) for p in (scaled, true.tolist(), plain))
    assert ours < 1.015 * oracle and ours < 0.85 * old, (ours, oracle, old)


def fit(xs, ys):
    y = torch.tensor(ys, dtype=torch.float64)
    loss = lambda t: float(torch.nn.functional.binary_cross_entropy_with_logits(t[0] * xs + t[1], y))
    return minimize(loss, [1.0, 0.0], method="Nelder-Mead", options={"xatol": 1e-8, "fatol": 1e-12}).x


def test_without_drift_it_finds_the_fixed_fit():
    """P273, accept: coefficients of a fixed logistic fit within 5 %, in the mean over the second half.

    The last ones alone still move: the step is ten times Newton's.
    """
    draw = torch.Generator().manual_seed(72)
    xs = 2 * torch.randn(6000, generator=draw, dtype=torch.float64)
    ys = (
        (torch.rand(6000, generator=draw, dtype=torch.float64) < torch.sigmoid(0.5 * xs + 0.8))
        .long()
        .tolist()
    )
    calibrator, seen = OnlinePlatt(), []
    for x, y in zip(xs.tolist(), ys, strict=True):
        calibrator.predict(sigmoid(x))
        calibrator.update(y)
        seen.append(calibrator.theta)
    mean = torch.tensor(seen[3000:], dtype=torch.float64).mean(0)
    for one, other in zip(mean.tolist(), fit(xs, ys), strict=True):
        assert one == pytest.approx(other, rel=0.05)


def test_adversarial_labels():
    """P273, accept: error after calibeating < .03 where scaling alone has > .05."""
    calibrator, scaled, answered, ys = OnlinePlatt(), [], [], []
    draw = torch.Generator().manual_seed(73)
    for x in (3 * torch.randn(6000, generator=draw, dtype=torch.float64)).tolist():
        answered.append(calibrator.predict(sigmoid(x)))
        scaled.append(calibrator.scaled)
        ys.append(int(calibrator.scaled < 0.5))  # always the other side
        calibrator.update(ys[-1])
    assert error(scaled, ys) > 0.05 and error(answered, ys) < 0.03, (error(scaled, ys), error(answered, ys))


def test_resumes_and_refuses():
    draw = torch.Generator().manual_seed(3)
    xs, ys = torch.randn(60, generator=draw).tolist(), torch.randint(2, (60,), generator=draw).tolist()
    straight = stream(xs, ys)[1]
    first = stream(xs[:30], ys[:30])[2]
    second = OnlinePlatt()
    second.load_state_dict(first.state_dict())
    again = []
    for x, y in zip(xs[30:], ys[30:], strict=True):
        again.append(second.predict(sigmoid(x)))
        second.update(y)
    assert again == straight[30:]
    with pytest.raises(ValueError, match="Call predict first"):
        OnlinePlatt().update(1)
    with pytest.raises(ValueError, match="bins 0"):
        OnlinePlatt(bins=0)
    assert 0 < OnlinePlatt().predict(0.0) < OnlinePlatt().predict(1.0) < 1
