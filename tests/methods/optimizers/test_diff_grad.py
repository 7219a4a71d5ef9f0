"""Test ``vario.methods.optimizers.diff_grad``."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.methods.optimizers.reference import follow, parameters
from vario.methods.optimizers import diff_grad

pytest.importorskip("pytorch_optimizer")


def reference(params, decay, eps=1e-8):
    w = [p.detach().clone() for p in params]
    m, v, last, count = *([torch.zeros_like(p) for p in w] for _ in range(3)), [0]

    def step(grads, lr):
        count[0] += 1
        for k, g in enumerate(grads):
            g = g + decay * w[k]
            brake = torch.sigmoid((last[k] - g).abs())
            assert bool(((brake >= 0.5) & (brake <= 1)).all())
            last[k] = g
            m[k], v[k] = 0.9 * m[k] + 0.1 * g, 0.999 * v[k] + 0.001 * g * g
            m_hat, v_hat = m[k] / (1 - 0.9 ** count[0]), v[k] / (1 - 0.999 ** count[0])
            w[k] = w[k] - lr * brake * m_hat / (v_hat.sqrt() + eps)
        return w

    return step


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_follows_the_equation(decay):
    """P007, accept: 200 steps to 1e-6."""
    params = parameters()
    optimizer = diff_grad(params, lr=0.01, weight_decay=decay)
    follow(optimizer, params, reference(params, decay), rtol=1e-6, steps=200)


def test_constant_gradient_is_half_of_adam():
    """P007, accept: exactly half, to 1e-7, once the first step is over."""
    one, two = (nn.Parameter(torch.zeros(3, dtype=torch.float64)) for _ in range(2))
    brake, adam = diff_grad([one], lr=0.1), torch.optim.Adam([two], lr=0.1)
    for step in range(10):
        before = one.detach().clone(), two.detach().clone()
        for p, optimizer in ((one, brake), (two, adam)):
            p.grad = torch.full_like(p, 2.0)
            optimizer.step()
        if step:
            torch.testing.assert_close(one - before[0], 0.5 * (two - before[1]), rtol=1e-7, atol=1e-9)
