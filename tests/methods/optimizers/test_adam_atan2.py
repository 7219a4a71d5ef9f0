"""Test ``vario.methods.optimizers.adam_atan2``."""

from __future__ import annotations

import math
import shutil

import pytest
import torch
from torch import nn

from tests.methods.optimizers.reference import follow, parameters
from vario.methods.optimizers import AdamAtan2, adam_atan2

needs_compiler = pytest.mark.skipif(
    not any(map(shutil.which, ("cc", "gcc", "clang"))), reason="needs a C compiler"
)


def reference(params, a, b, decay):
    w = [p.detach().clone() for p in params]
    m, v, count = [torch.zeros_like(p) for p in w], [torch.zeros_like(p) for p in w], [0]

    def step(grads, lr):
        count[0] += 1
        for k, g in enumerate(grads):
            m[k] = 0.9 * m[k] + 0.1 * g
            v[k] = 0.95 * v[k] + 0.05 * g * g
            m_hat, v_hat = m[k] / (1 - 0.9 ** count[0]), v[k] / (1 - 0.95 ** count[0])
            w[k] = w[k] * (1 - lr * decay) - lr * a * torch.atan2(m_hat, b * v_hat.sqrt())
        return w

    return step


@pytest.mark.parametrize(("a", "b", "decay"), [(1.0, 1.0, 0.0), (1.27, 2.0, 0.1)])
def test_follows_the_equation(a, b, decay):
    params = parameters()
    optimizer = AdamAtan2(params, lr=0.01, betas=(0.9, 0.95), a=a, b=b, weight_decay=decay)
    follow(optimizer, params, reference(params, a, b, decay), rtol=1e-12)


def test_scale_of_the_gradient_does_not_matter_even_in_float32():
    """P355, accept: from 1e-20 to 1e20, to 1e-6; Adam's first step at 1e-9 is shrunken by more than half."""
    moved = {}
    for scale in (1e-20, 1e-9, 1.0, 1e9, 1e18, 1e20):
        p = nn.Parameter(torch.zeros(64))
        optimizer = AdamAtan2([p], lr=0.1)
        draw = torch.Generator().manual_seed(0)
        for _ in range(10):
            p.grad = torch.randn(64, generator=draw) * scale
            optimizer.step()
        moved[scale] = p.detach()
    for scale, value in moved.items():
        torch.testing.assert_close(value, moved[1.0], rtol=1e-6, atol=1e-6, msg=f"{scale}")
    p = nn.Parameter(torch.zeros(1))
    p.grad = torch.full((1,), 1e-9)
    torch.optim.Adam([p], lr=1.0).step()
    assert abs(p.item()) < 0.5


def test_step_is_bounded():
    p = nn.Parameter(torch.zeros(1, dtype=torch.float64))
    optimizer = AdamAtan2([p], lr=1.0, betas=(0.0, 0.999))
    before = 0.0
    for grad in (1e-12, 1e12, -1e12, 0.0):
        p.grad = torch.full_like(p, grad)
        optimizer.step()
        assert abs(p.item() - before) <= math.pi / 2
        before = p.item()


def test_goes_where_the_package_goes():
    package = pytest.importorskip("adam_atan2_pytorch")
    ours, theirs = parameters(), parameters()
    one = AdamAtan2(ours, lr=0.01, betas=(0.9, 0.99))
    two = package.AdamAtan2(theirs, lr=0.01, betas=(0.9, 0.99), a=1.0, b=1.0)
    for step in range(30):
        for p, q in zip(ours, theirs, strict=True):
            p.grad = torch.randn(p.shape, generator=torch.Generator().manual_seed(step), dtype=p.dtype)
            q.grad = p.grad.clone()
        one.step()
        two.step()
    for p, q in zip(ours, theirs, strict=True):
        torch.testing.assert_close(p, q, rtol=1e-10, atol=1e-12)


@needs_compiler
@pytest.mark.parametrize(("a", "b", "decay"), [(1.0, 1.0, 0.0), (1.27, 2.0, 0.1)])
def test_step_in_c_follows_the_equation(a, b, decay):
    exact, single = parameters(), [nn.Parameter(p.detach().float()) for p in parameters()]
    assert adam_atan2.built(adam_atan2.NATIVE, "adam_atan2")
    optimizer = AdamAtan2(single, lr=0.01, betas=(0.9, 0.95), a=a, b=b, weight_decay=decay)
    step = reference(exact, a, b, decay)
    draw = torch.Generator().manual_seed(3)
    for k in range(30):
        grads = [torch.randn(p.shape, generator=draw) * (100.0 if k == 7 else 1.0) for p in exact]
        for p, g in zip(single, grads, strict=True):
            p.grad = g
        optimizer.step()
        expected = step([g.double() for g in grads], 0.01)
    for p, w in zip(single, expected, strict=True):
        torch.testing.assert_close(p.detach(), w.float(), rtol=1e-5, atol=2e-6)


@needs_compiler
def test_arctangent_in_c_is_right_everywhere():
    """One step from zero moments at betas (0, 0) is the angle of (g, b |g|): here of every slope."""
    for b in (1e-30, 1e-3, 0.1, 0.41, 0.9, 1.0, 1.1, 7.0, 1e4, 1e30):
        p = nn.Parameter(torch.zeros(3))
        p.grad = torch.tensor([1.0, -1.0, 0.0])
        AdamAtan2([p], lr=1.0, betas=(0.0, 0.0), b=b).step()
        right = math.atan2(1.0, b)
        torch.testing.assert_close(p.detach(), torch.tensor([-right, right, 0.0]), rtol=3e-7, atol=0)
        p.grad[0] = float("nan")
        AdamAtan2([p], lr=1.0, b=b).step()
        assert p[0].isnan()


def test_without_a_compiler_it_goes_the_same_way(monkeypatch):
    moved = []
    for kernel in (adam_atan2.built, lambda *_: None):
        monkeypatch.setattr(adam_atan2, "built", kernel)
        p = nn.Parameter(torch.ones(500, 3).t())  # its memory is not in the order of its entries
        optimizer = AdamAtan2([p], lr=0.1, weight_decay=0.1)
        for k in range(5):
            p.grad = torch.randn(3, 500, generator=torch.Generator().manual_seed(k))
            optimizer.step()
        moved.append(p.detach())
    torch.testing.assert_close(*moved, rtol=1e-6, atol=1e-6)
