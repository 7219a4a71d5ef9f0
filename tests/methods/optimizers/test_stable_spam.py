"""Test ``vario.methods.optimizers.stable_spam``."""

from __future__ import annotations

import sys

import pytest
import torch
from torch import nn

from tests.methods.optimizers.reference import follow, parameters
from vario.methods.optimizers import stable_spam


def reference(params, reset, betas=(0.9, 0.999), gamma=(0.7, 0.9), theta=0.999, eps=1e-8):
    w = [p.detach().clone() for p in params]
    zeros = lambda: [torch.zeros_like(p) for p in w]
    m, v, top, length, square = zeros(), zeros(), [0.0] * len(w), [0.0] * len(w), [0.0] * len(w)
    count, since = [0], [0]

    def step(grads, lr):
        count[0] += 1
        since[0] += 1
        if count[0] % reset == 0:
            m[:], v[:] = zeros(), zeros()
            since[0] = 1
        t, s = count[0], since[0]
        for k, g in enumerate(grads):
            largest = g.abs().max()
            top[k] = theta * top[k] + (1 - theta) * largest
            limit = top[k] / (1 - theta**t)
            g = torch.where(g.abs() > limit, g / largest * limit, g)
            norm = g.norm()
            length[k] = gamma[0] * length[k] + (1 - gamma[0]) * norm
            square[k] = gamma[1] * square[k] + (1 - gamma[1]) * norm**2
            mean, root = length[k] / (1 - gamma[0] ** t), (square[k] / (1 - gamma[1] ** t)).sqrt()
            g = g / norm * mean / (root + eps)
            m[k] = betas[0] * m[k] + (1 - betas[0]) * g
            v[k] = betas[1] * v[k] + (1 - betas[1]) * g * g
            w[k] = w[k] - lr * (m[k] / (1 - betas[0] ** s)) / ((v[k] / (1 - betas[1] ** s)).sqrt() + eps)
        return w

    return step


def test_follows_the_equation_over_a_reset():
    """P005, accept: 300 steps including a reset."""
    pytest.importorskip("pytorch_optimizer")
    params = parameters()
    optimizer = stable_spam(params, lr=0.01, reset_every=100)
    follow(optimizer, params, reference(params, 100), rtol=1e-6, steps=300)


def test_one_spike_does_not_stop_the_steps():
    """P005, accept: x1000, then 0.7 to 1.3 of the old length; Adam below 0.3 after 100 steps."""
    pytest.importorskip("pytorch_optimizer")
    lengths = {}
    for name, make in (("ours", stable_spam), ("adam", torch.optim.Adam)):
        p = nn.Parameter(torch.zeros(50, 50))
        optimizer, draw, seen = make([p], lr=1e-3), torch.Generator().manual_seed(13), []
        for step in range(901):
            p.grad = torch.randn(50, 50, generator=draw) * (1000.0 if step == 400 else 1.0)
            before = p.detach().clone()
            optimizer.step()
            seen.append((p - before).norm().item())
        calm = sum(seen[390:400]) / 10
        lengths[name] = [seen[400 + later] / calm for later in (5, 20, 100, 500)]
    assert all(0.7 <= ratio <= 1.3 for ratio in lengths["ours"])
    assert lengths["adam"][2] < 0.3


def test_says_what_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "pytorch_optimizer", None)
    with pytest.raises(ImportError, match=r"pip install 'vario\[methods\]'"):
        stable_spam([nn.Parameter(torch.ones(1))])
