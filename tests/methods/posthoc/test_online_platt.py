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


def drifting(seed, size, n=6000):
    """Logits, true probabilities and labels of a stream whose offset moves from -size to size."""
    draw = torch.Generator().manual_seed(seed)
    xs = 2 * torch.randn(n, generator=draw, dtype=torch.float64)
    true = torch.sigmoid(0.7 * xs + size * torch.linspace(-1, 1, n, dtype=torch.float64))
    return xs, true, (torch.rand(n, generator=draw, dtype=torch.float64) < true).long().tolist()


@pytest.mark.parametrize("seed", [271, *(pytest.param(s, marks=pytest.mark.slow) for s in range(272, 277))])
def test_follows_a_drift(seed):
    """P273, accept: log loss within 1.5 % of the oracle and >= 15 % below a fixed Platt fit, 6,000 points.

    The row does not say how fast its stream drifts, but its fixed fit loses 35 % on the oracle; so does
    one of the first 1,000 labels here.
    """
    xs, true, ys = drifting(seed, 1.5)
    fixed = fit(xs[:1000], ys[:1000])
    plain = torch.sigmoid(fixed[0] * xs + fixed[1]).tolist()
    ours, oracle, old = (log_loss(p, ys) for p in (stream(xs.tolist(), ys)[0], true.tolist(), plain))
    assert old > 1.3 * oracle
    assert ours < 1.015 * oracle and ours < 0.85 * old, (ours, oracle, old)


def fit(xs, ys):
    y = torch.tensor(ys, dtype=torch.float64)
    loss = lambda t: float(torch.nn.functional.binary_cross_entropy_with_logits(t[0] * xs + t[1], y))
    return minimize(loss, [1.0, 0.0], method="Nelder-Mead", options={"xatol": 1e-8, "fatol": 1e-12}).x


@pytest.mark.slow
@pytest.mark.parametrize("seed", [281, 282])
def test_without_drift_it_converges_to_the_fixed_fit(seed):
    """P273, accept: the coefficients of scikit-learn's sigmoid calibration within 5 %.

    The step is 1 / beta = 10 times Newton's, so the last numbers keep 100 / 19 times the variance of the fit
    itself: 7 % standard deviation after 6,000 labels of this stream, 1.2 % after the 200,000 given here.
    """
    calibration = pytest.importorskip("sklearn.calibration")
    draw, n = torch.Generator().manual_seed(seed), 200_000
    xs = 2 * torch.randn(n, generator=draw, dtype=torch.float64)
    chances = torch.sigmoid(0.5 * xs + 0.8)
    ys = (torch.rand(n, generator=draw, dtype=torch.float64) < chances).long().tolist()
    theirs = calibration._SigmoidCalibration().fit(xs.numpy(), ys)
    assert stream(xs.tolist(), ys)[2].theta == pytest.approx((-theirs.a_, -theirs.b_), rel=0.05)


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
