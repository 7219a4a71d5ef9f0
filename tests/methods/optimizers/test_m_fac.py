"""Test ``vario.methods.optimizers.m_fac``."""

from __future__ import annotations

import time

import pytest
import torch
from torch import nn

from tests.methods.optimizers.reference import follow, parameters
from vario.methods.optimizers import MFAC, FisherInverse


def dense(rows, damp):
    rows = rows.double()
    return torch.linalg.inv(damp * torch.eye(rows.shape[1]).double() + rows.T @ rows / len(rows))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equals_the_dense_inverse(dtype):
    """P197, accept: d = 500, m = 64, relative error < 1e-5."""
    draw = torch.Generator().manual_seed(0)
    rows, x = torch.randn(64, 500, generator=draw, dtype=dtype), torch.randn(500, generator=draw, dtype=dtype)
    inverse, exact = FisherInverse(rows.clone(), damp=0.01), dense(rows, 0.01)
    expected = exact @ x.double()
    assert (inverse @ x - expected).norm() < 1e-5 * expected.norm()
    assert (inverse.diagonal() - exact.diagonal()).norm() < 1e-5 * exact.diagonal().norm()


def test_stays_exact_over_300_replacements():
    """P197, accept."""
    draw = torch.Generator().manual_seed(1)
    inverse = FisherInverse(torch.randn(32, 200, generator=draw), damp=0.01)
    for k in range(300):
        inverse.replace(k % 32, torch.randn(200, generator=draw) * (100.0 if k == 150 else 1.0))
    x = torch.randn(200, generator=draw)
    expected = dense(inverse.rows, 0.01) @ x.double()
    assert (inverse @ x - expected).norm() < 1e-5 * expected.norm()


@pytest.mark.slow
def test_cost_is_linear_in_the_size():
    """P197, accept: time ratio of d = 2e5 over d = 1e5 in [1.7, 2.4]."""
    times = []
    for size in (10**5, 2 * 10**5):
        rows = torch.randn(64, size, generator=torch.Generator().manual_seed(0))
        inverse, x = FisherInverse(rows, damp=0.01), rows[0].clone()
        best = []
        for _ in range(15):
            start = time.perf_counter()
            inverse @ x
            best.append(time.perf_counter() - start)
        times.append(sorted(best)[7])
    assert 1.7 <= times[1] / times[0] <= 2.4


def test_follows_the_equation():
    params = parameters()
    sizes = [p.numel() for p in params]
    optimizer = MFAC(params, lr=0.05, window=6, damp=0.3, momentum=0.5, weight_decay=0.1)
    w = torch.cat([p.detach().flatten() for p in params])
    rows, v, count = torch.zeros(6, sum(sizes)).double(), torch.zeros(sum(sizes)).double(), [0]

    def step(grads, lr):
        nonlocal w, v
        g = torch.cat([x.flatten() for x in grads]) + 0.1 * w
        rows[count[0] % 6] = g
        count[0] += 1
        v = 0.5 * v + 0.5 * (dense(rows, 0.3) @ g)
        w = w - lr * v
        return [part.view_as(p) for part, p in zip(w.split(sizes), params, strict=True)]

    follow(optimizer, params, step, rtol=1e-8)


def test_large_damping_is_gradient_descent():
    one, two = parameters(), parameters()
    fisher, plain = MFAC(one, lr=1e6, damp=1e8, window=4), torch.optim.SGD(two, lr=1e-2)
    for step in range(5):
        for p, q in zip(one, two, strict=True):
            p.grad = torch.randn(p.shape, generator=torch.Generator().manual_seed(step), dtype=p.dtype)
            q.grad = p.grad.clone()
        fisher.step()
        plain.step()
    for p, q in zip(one, two, strict=True):
        torch.testing.assert_close(p, q, rtol=1e-5, atol=1e-7)


@pytest.mark.slow
def test_needs_a_third_of_the_steps_on_an_ill_conditioned_problem():
    """P197, accept: condition 1e4 logistic regression, loss gap 1e-3, against tuned SGD."""
    draw = torch.Generator().manual_seed(3)
    x = torch.randn(400, 20, generator=draw).double() * torch.logspace(0, -2, 20).double()
    y = (x @ (torch.randn(20, generator=draw).double() / torch.logspace(0, -2, 20)) > 0).double()
    flip = torch.rand(400, generator=draw) < 0.1
    y[flip] = 1 - y[flip]

    def loss(w, pick=slice(None)):
        return nn.functional.binary_cross_entropy_with_logits(x[pick] @ w, y[pick]) + 5e-5 * w.square().sum()

    best = nn.Parameter(torch.zeros(20).double())
    solver = torch.optim.LBFGS([best], max_iter=5000, tolerance_grad=1e-12, tolerance_change=1e-15)
    solver.step(lambda: (solver.zero_grad(), loss(best).backward(), loss(best))[2])
    floor = loss(best).item()

    def steps(make, limit):
        w, source = nn.Parameter(torch.zeros(20).double()), torch.Generator().manual_seed(4)
        optimizer = make([w])
        for step in range(limit):
            optimizer.zero_grad()
            loss(w, torch.randint(400, (100,), generator=source)).backward()
            optimizer.step()
            if loss(w).item() - floor < 1e-3:
                return step + 1
        return limit

    tuned = min(
        steps(lambda p, lr=lr, m=m: torch.optim.SGD(p, lr=lr, momentum=m), 6000)
        for lr in (1, 3, 10, 30, 100)
        for m in (0.0, 0.9)
    )
    ours = min(
        steps(lambda p, lr=lr: MFAC(p, lr=lr, window=256, damp=1e-5), 2000) for lr in (3e-4, 1e-3, 3e-3)
    )
    assert ours <= tuned / 3


def test_refuses():
    with pytest.raises(ValueError, match="damp"):
        FisherInverse(torch.zeros(2, 2), damp=0.0)
    with pytest.raises(ValueError, match="window 0"):
        MFAC([nn.Parameter(torch.ones(1))], window=0)
