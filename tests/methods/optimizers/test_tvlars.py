"""Test ``vario.methods.optimizers.tvlars``."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from tests.methods.optimizers.reference import follow, parameters
from vario.methods.optimizers import LARS, TVLARS
from vario.methods.optimizers.tvlars import phi


def test_ends_of_the_fall():
    """P196, accept: phi at 0 and at infinity, to 1e-6."""
    assert phi(0, 0.7, 0.05, 40, 0.02) == pytest.approx(1 / (0.7 + math.exp(-0.05 * 40)) + 0.02, abs=1e-12)
    assert phi(10**6, 0.7, 0.05, 40, 0.02) == pytest.approx(0.02, abs=1e-12)
    values = [phi(t, 0.7, 0.05, 40, 0.02) for t in range(300)]
    assert values == sorted(values, reverse=True) and values[0] > 2 * values[-1]


def test_constant_phi_is_lars():
    """P196, accept: phi = 1 gives LARS to 1e-6 (and LARS is held against the package)."""
    ours, theirs = parameters(), parameters()
    one = TVLARS(ours, lr=0.3, alpha=1.0, steepness=0.0, gamma_min=0.5, weight_decay=0.1)
    two = LARS(theirs, lr=0.3, weight_decay=0.1)
    for step in range(20):
        for p, q in zip(ours, theirs, strict=True):
            p.grad = torch.randn(p.shape, generator=torch.Generator().manual_seed(step), dtype=p.dtype)
            q.grad = p.grad.clone()
        one.step()
        two.step()
    for p, q in zip(ours, theirs, strict=True):
        torch.testing.assert_close(p, q, rtol=1e-12, atol=1e-12)


def test_follows_the_equation():
    params = parameters()
    optimizer = TVLARS(params, lr=0.5, trust=0.02, steepness=0.3, delay=10, gamma_min=0.05, weight_decay=0.1)
    w = [p.detach().clone() for p in params]
    v, count = [torch.zeros_like(p) for p in w], [0]

    def step(grads, lr):
        fall = 1 / (1 + math.exp(0.3 * (count[0] - 10))) + 0.05
        count[0] += 1
        for k, g in enumerate(grads):
            move = g
            if w[k].ndim > 1:
                ratio = 0.02 * fall * w[k].norm() / (g.norm() + 0.1 * w[k].norm())
                move = ratio * (g + 0.1 * w[k])
            v[k] = 0.9 * v[k] + lr * move
            w[k] = w[k] - v[k]
        return w

    follow(optimizer, params, step, rtol=1e-11)


def test_a_late_or_resting_group_falls_with_the_others():
    first, resting, late = (nn.Parameter(torch.ones(2, 2)) for _ in range(3))
    optimizer = TVLARS([{"params": [first]}, {"params": [resting]}], delay=2)
    for _ in range(3):
        first.grad = torch.ones(2, 2)
        optimizer.step()
    optimizer.add_param_group({"params": [late]})
    assert [group["phi_step"] for group in optimizer.param_groups] == [3, 3, 3]
    twin = TVLARS([{"params": [p]} for p in (first, resting, late)])
    twin.load_state_dict(optimizer.state_dict())
    assert [group["phi_step"] for group in twin.param_groups] == [3, 3, 3]


@pytest.mark.slow
def test_is_no_worse_than_warmed_up_lars_at_a_large_batch():
    """P196, accept (accuracy): MNIST-5k, batch 2,048, 20 epochs, 5 seeds, at least LARS with warm-up - "
    "0.5."""
    from tests.methods.digits import accuracy, mnist, network

    x, y, x_test, y_test = mnist()

    def run(kind, seed):
        model, draw, steps, step = network(seed), torch.Generator().manual_seed(seed), 40, 0
        if kind == "lars":
            optimizer = LARS(model.parameters(), lr=2.0, trust=0.02)
        else:
            optimizer = TVLARS(
                model.parameters(), lr=2.0, trust=0.02, steepness=0.3, delay=20, gamma_min=0.05
            )
        for _ in range(20):
            for batch in torch.randperm(4000, generator=draw).split(2048):
                if kind == "lars":
                    warm = min(1.0, (step + 1) / 10)
                    decay = 0.5 + 0.5 * math.cos(math.pi * max(0, step - 10) / (steps - 10))
                    optimizer.param_groups[0]["lr"] = 2.0 * warm * decay
                optimizer.zero_grad()
                nn.functional.cross_entropy(model(x[batch]), y[batch]).backward()
                optimizer.step()
                step += 1
        return accuracy(model, x_test, y_test)

    seeds = range(91, 96)
    ours, theirs = (sum(run(kind, s) for s in seeds) / 5 for kind in ("tvlars", "lars"))
    assert theirs > 0.8 and ours >= theirs - 0.005
