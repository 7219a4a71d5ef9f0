"""Test ``vario.methods.schedules.accumulation``."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from vario.methods.schedules import Accumulation


def model(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 3)).double()


def data(seed=1, sizes=(7, 2, 5, 11)):
    draw = torch.Generator().manual_seed(seed)
    x = [torch.randn(n, 5, generator=draw, dtype=torch.float64) for n in sizes]
    return x, [torch.randint(3, (n,), generator=draw) for n in sizes]


def test_equals_the_large_batch_and_the_mean_of_means_does_not():
    """P211, accept."""
    xs, ys = data()
    whole, parts, naive = model(), model(), model()
    nn.functional.cross_entropy(whole(torch.cat(xs)), torch.cat(ys)).backward()
    optimizer = torch.optim.SGD(parts.parameters(), lr=1.0)
    accumulation = Accumulation(optimizer)
    for x, y in zip(xs, ys, strict=True):
        accumulation.backward(nn.functional.cross_entropy(parts(x), y, reduction="sum"), len(y))
        (nn.functional.cross_entropy(naive(x), y) / len(xs)).backward()
    before = [p.detach().clone() for p in parts.parameters()]
    assert accumulation.step() is True
    worst = 0.0
    for p, old, q, r in zip(parts.parameters(), before, whole.parameters(), naive.parameters(), strict=True):
        torch.testing.assert_close(old - p, q.grad, rtol=1e-10, atol=1e-12)
        worst = max(worst, (r.grad - q.grad).abs().max().item())
    assert worst > 1e-3
    assert all(p.grad is None for p in parts.parameters()) and accumulation.count == 0


def test_infinite_gradient_skips_one_step_and_halves_the_scale():
    """P211, accept: the state sequence is that of torch.amp.GradScaler driven by hand."""
    states = []
    for by_hand in (False, True):
        net = model()
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=3)
        accumulation = Accumulation(optimizer, scaler=scaler)
        sequence, moved = [], []
        xs, ys = data(sizes=(6,) * 8)
        for step, (x, y) in enumerate(zip(xs, ys, strict=True)):
            before = net[0].weight.detach().clone()
            loss = nn.functional.cross_entropy(net(x), y, reduction="sum") * (
                float("inf") if step == 4 else 1.0
            )
            if by_hand:
                scaler.scale(loss / len(y)).backward()
                scaler.step(optimizer)
                scaler.update()
                optimizer.zero_grad()
            else:
                accumulation.backward(loss, len(y))
                assert accumulation.step() is (step != 4)
            sequence.append(scaler.get_scale())
            moved.append(not torch.equal(before, net[0].weight))
        assert moved == [step != 4 for step in range(8)]
        assert sequence == [1024, 1024, 2048, 2048, 1024, 1024, 1024, 2048]
        states.append(net[0].weight.detach())
    torch.testing.assert_close(states[0], states[1], rtol=1e-9, atol=1e-12)


def test_scaling_saves_small_float16_gradients():
    """P211, accept: entries that vanish in float16 fall from more than 20 % to less than 1 %."""
    draw = torch.Generator().manual_seed(0)
    grads = torch.randn(20000, generator=draw) * 10 ** (-8 + 1.2 * torch.randn(20000, generator=draw))
    lost = (grads.half() == 0).float().mean()
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**16)
    kept = ((grads * scaler.scale(torch.ones(1))).half() == 0).float().mean()
    assert lost > 0.2 and kept < 0.01


def test_clipping_sees_the_finished_gradient():
    net = model()
    accumulation = Accumulation(torch.optim.SGD(net.parameters(), lr=1.0), max_norm=1e-3)
    before = [p.detach().clone() for p in net.parameters()]
    for x, y in zip(*data(), strict=True):
        accumulation.backward(nn.functional.cross_entropy(net(x), y, reduction="sum"), len(y))
    accumulation.step()
    moved = torch.cat([(p - q).flatten() for p, q in zip(net.parameters(), before, strict=True)])
    assert moved.norm().item() == pytest.approx(1e-3, rel=1e-4)


def test_refuses():
    accumulation = Accumulation(torch.optim.SGD(model().parameters(), lr=1.0))
    with pytest.raises(ValueError, match="nothing was accumulated"):
        accumulation.step()
    with pytest.raises(ValueError, match="count is -1"):
        accumulation.backward(torch.zeros(()), -1)
