"""Test ``vario.methods.optimizers.lars``."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.methods.optimizers.reference import follow, parameters
from vario.methods.optimizers import LARS


def reference(params, inside, decay=0.1, trust=0.01):
    w = [p.detach().clone() for p in params]
    v = [torch.zeros_like(p) for p in w]

    def step(grads, lr):
        for k, g in enumerate(grads):
            move = g
            if w[k].ndim > 1:
                ratio = trust * w[k].norm() / (g.norm() + decay * w[k].norm())
                move = ratio * (g + decay * w[k])
            v[k] = 0.9 * v[k] + (lr if inside else 1.0) * move
            w[k] = w[k] - (1.0 if inside else lr) * v[k]
        return w

    return step


@pytest.mark.parametrize("inside", [True, False])
def test_follows_the_equation(inside):
    params = parameters()
    optimizer = LARS(params, lr=0.3, weight_decay=0.1, trust=0.01, lr_inside=inside)
    follow(optimizer, params, reference(params, inside), rtol=1e-11)


@pytest.mark.parametrize(("inside", "falling"), [(False, True), (True, False)])
def test_goes_where_the_package_goes(inside, falling):
    """P214, accept: 50 steps to 1e-6; inside the buffer this holds at a constant rate only."""
    package = pytest.importorskip("pytorch_optimizer")
    ours, theirs = parameters(), parameters()
    one = LARS(ours, lr=0.3, weight_decay=0.1, trust=0.01, lr_inside=inside)
    two = package.LARS(theirs, lr=0.3, weight_decay=0.1, trust_coefficient=0.01)
    for step in range(50):
        for optimizer in (one, two):
            optimizer.param_groups[0]["lr"] = 0.3 * (1 - step / 50 if falling else 1)
        for p, q in zip(ours, theirs, strict=True):
            p.grad = torch.randn(p.shape, generator=torch.Generator().manual_seed(step), dtype=p.dtype)
            q.grad = p.grad.clone()
        one.step()
        two.step()
    for p, q in zip(ours, theirs, strict=True):
        torch.testing.assert_close(p, q, rtol=1e-6, atol=1e-8)


def test_length_of_the_gradient_does_not_matter():
    """P214, accept: a gradient times 1,000 leaves the step unchanged to 1e-5."""
    moved = []
    for scale in (1.0, 1e3):
        p = nn.Parameter(torch.ones(4, 3))
        optimizer = LARS([p], lr=0.1)
        for step in range(5):
            p.grad = scale * torch.randn(4, 3, generator=torch.Generator().manual_seed(step))
            optimizer.step()
        moved.append(p.detach() - 1)
    torch.testing.assert_close(moved[0], moved[1], rtol=1e-5, atol=1e-9)


def course(make, scale):
    """Outputs along ten steps of a net whose first layer is written as scale * W."""
    torch.manual_seed(0)
    first, second = torch.randn(6, 4, dtype=torch.float64), torch.randn(3, 6, dtype=torch.float64)
    a, b = nn.Parameter(first / scale), nn.Parameter(second)
    optimizer = make([a, b])
    x, y = torch.randn(20, 4, dtype=torch.float64), torch.randn(20, 3, dtype=torch.float64)
    outputs = []
    for _ in range(10):
        optimizer.zero_grad()
        out = torch.tanh(x @ (scale * a).T) @ b.T
        (out - y).square().mean().backward()
        optimizer.step()
        outputs.append(out.detach())
    return torch.stack(outputs)


def test_reparametrised_layer_takes_the_same_course():
    """P214, accept: 30 W leaves the course unchanged to 1e-4, that of SGD changes by more than 0.1."""
    lars = [course(lambda p: LARS(p, lr=1.0, trust=0.02), scale) for scale in (1.0, 30.0)]
    sgd = [course(lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9), scale) for scale in (1.0, 30.0)]
    assert (lars[0] - lars[1]).abs().max() < 1e-4 and (lars[0][0] - lars[0][-1]).abs().max() > 0.1
    assert (sgd[0] - sgd[1]).abs().max() > 0.1


def test_refuses():
    with pytest.raises(ValueError, match="trust"):
        LARS([nn.Parameter(torch.ones(1))], trust=0.0)
    with pytest.raises(ValueError, match="momentum"):
        LARS([nn.Parameter(torch.ones(1))], momentum=1.0)
