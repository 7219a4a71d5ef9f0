"""Test ``vario.methods.optimizers.sam``."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.methods.optimizers.reference import parameters
from vario.methods.optimizers import SAM


def loss_of(params):
    return sum((p.square().sum() + p.sin().sum()) * (k + 1) for k, p in enumerate(params))


def closure_for(optimizer, params):
    def closure():
        optimizer.zero_grad()
        loss = loss_of(params)
        loss.backward()
        return loss

    return closure


@pytest.mark.parametrize("normalize", [True, False])
def test_follows_the_equation(normalize):
    params = parameters()
    optimizer = SAM(torch.optim.SGD(params, lr=0.02), rho=0.1, normalize=normalize)
    w = [p.detach().clone() for p in params]
    slope = lambda w: [(2 * x + x.cos()) * (k + 1) for k, x in enumerate(w)]
    for step in range(30):
        optimizer.param_groups[0]["lr"] = lr = 0.02 * (1 - step / 40)
        optimizer.step(closure_for(optimizer, params))
        g = slope(w)
        length = torch.cat([x.flatten() for x in g]).norm() if normalize else 1.0
        top = slope([x + 0.1 * y / length for x, y in zip(w, g, strict=True)])
        w = [x - lr * y for x, y in zip(w, top, strict=True)]
        for p, x in zip(params, w, strict=True):
            torch.testing.assert_close(p.detach(), x, rtol=1e-10, atol=1e-11)


def test_goes_where_the_package_goes():
    """P268, accept: 20 steps."""
    package = pytest.importorskip("pytorch_optimizer")
    ours, theirs = parameters(), parameters()
    one = SAM(torch.optim.AdamW(ours, lr=0.01), rho=0.05)
    two = package.SAM(theirs, torch.optim.AdamW, rho=0.05, lr=0.01)
    for _ in range(20):
        one.step(closure_for(one, ours))
        closure_for(two, theirs)()
        two.step(closure_for(two, theirs))
    for p, q in zip(ours, theirs, strict=True):
        torch.testing.assert_close(p, q, rtol=1e-6, atol=1e-8)


def test_no_radius_is_the_inner_optimizer():
    one, two = parameters(), parameters()
    around, plain = SAM(torch.optim.AdamW(one, lr=0.01), rho=0.0), torch.optim.AdamW(two, lr=0.01)
    for _ in range(5):
        around.step(closure_for(around, one))
        plain.step(closure_for(plain, two))
    assert all(torch.equal(p, q) for p, q in zip(one, two, strict=True))


def test_a_closure_that_breaks_off_leaves_the_weights():
    w = nn.Parameter(torch.ones(3))
    optimizer, calls = SAM(torch.optim.SGD([w], lr=0.1), rho=0.5), []

    def closure():
        calls.append(w.detach().clone())
        if len(calls) == 2:
            raise MemoryError
        w.grad = torch.ones(3)
        return w.sum()

    with pytest.raises(MemoryError):
        optimizer.step(closure)
    assert not torch.equal(calls[1], torch.ones(3)) and torch.equal(w.detach(), torch.ones(3))


def test_stays_at_a_saddle_that_gradient_descent_leaves():
    """P268, accept: x^2 - y^2, 1,000 steps, |y| < rho."""
    ends = []
    for rho in (0.0, 1.0):
        w = nn.Parameter(torch.tensor([0.5, 1e-3], dtype=torch.float64))
        optimizer = SAM(torch.optim.SGD([w], lr=0.01), rho=rho)

        def closure(w=w, optimizer=optimizer):
            optimizer.zero_grad()
            loss = w[0] ** 2 - w[1] ** 2
            loss.backward()
            return loss

        for _ in range(1000):
            optimizer.step(closure)
            if w[1].abs() > 1e4:
                break
        ends.append(w[1].abs().item())
    assert ends[0] > 1e3 and ends[1] < 1.0


def test_stationary_variance_follows_the_sde():
    """P268, accept: USAM on a noisy quadratic: within 5 % of the SDE at eta = 1e-3; halves with eta.

    h x^2 / 2 with gradient noise s: the drift is h (1 + rho h) x and the noise (1 + rho h) s, so the variance
    of the SDE is eta (1 + rho h) s^2 / (2 h). The chain x <- (1 - eta a) x - eta (1 + rho h) s z, with
    a = h (1 + rho h), has eta (1 + rho h)^2 s^2 / (a (2 - eta a)): the ratio is 1 / (1 - eta a / 2).
    """
    h, rho, s = 2.0, 0.5, 1.0
    gaps = {}
    for eta in (1e-3, 0.04, 0.02):
        x = nn.Parameter(torch.zeros(400_000, dtype=torch.float64))
        optimizer = SAM(torch.optim.SGD([x], lr=eta), rho=rho, normalize=False)
        sde = eta * (1 + rho * h) * s**2 / (2 * h)
        draw = torch.Generator().manual_seed(3)
        with torch.no_grad():
            x.copy_(torch.randn(x.shape, generator=draw, dtype=x.dtype) * sde**0.5)
        for _ in range(60):
            z = torch.randn(x.shape, generator=draw, dtype=x.dtype)

            def closure(x=x, z=z):
                x.grad = h * x.detach() + s * z
                return x.grad.sum()

            optimizer.step(closure)
        gaps[eta] = x.detach().var().item() / sde - 1
    assert abs(gaps[1e-3]) < 0.05
    assert gaps[0.02] / gaps[0.04] == pytest.approx(0.5, abs=0.12) and gaps[0.04] > 0.05


def test_refuses():
    with pytest.raises(ValueError, match="needs a closure"):
        SAM(torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=1.0)).step()
    with pytest.raises(ValueError, match="radius"):
        SAM(torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=1.0), rho=-1)
