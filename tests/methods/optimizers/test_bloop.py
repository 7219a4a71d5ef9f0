"""Test ``vario.methods.optimizers.bloop``."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.methods.optimizers.reference import parameters
from vario.methods.optimizers import Bloop


def test_follows_the_equation():
    params = parameters()
    optimizer = Bloop(torch.optim.SGD(params, lr=0.05), weight=0.7, rate=0.2)
    w = [p.detach().clone() for p in params]
    average, draw = None, torch.Generator().manual_seed(2)
    for step in range(30):
        lr = 0.05 * (1 - step / 60)
        optimizer.param_groups[0]["lr"] = lr
        shapes = [p.shape for p in params]
        spike = 1000.0 if step in (5, 17) else 1.0
        train = [spike * torch.randn(s, generator=draw, dtype=torch.float64) for s in shapes]
        other = [torch.randn(s, generator=draw, dtype=torch.float64) for s in shapes]
        optimizer.zero_grad()
        optimizer.auxiliary(sum((p * g).sum() for p, g in zip(params, other, strict=True)))
        sum((p * g).sum() for p, g in zip(params, train, strict=True)).backward()
        optimizer.step()
        flat, aux = torch.cat([g.flatten() for g in train]), torch.cat([g.flatten() for g in other])
        average = flat if average is None else 0.8 * average + 0.2 * flat
        across = aux - (aux @ average) / (average @ average) * average
        assert abs(across @ average) < 1e-6 * across.norm() * average.norm()
        parts = (flat + 0.7 * across).split([x.numel() for x in w])
        w = [x - lr * part.view_as(x) for x, part in zip(w, parts, strict=True)]
        for p, x in zip(params, w, strict=True):
            torch.testing.assert_close(p.detach(), x, rtol=1e-10, atol=1e-10 * x.abs().max().item())


def pcgrad(train, aux):
    """PCGrad of two gradients: of a pair in conflict, each loses its part along the other."""
    product = torch.minimum(train @ aux, torch.zeros(()))
    return train + aux - product * (aux / aux.square().sum() + train / train.square().sum())


def direction(first, second, rate=1.0):
    """What Bloop steps along where the training gradient is ``first``, after earlier ones."""
    w = nn.Parameter(torch.zeros_like(first[-1]))
    optimizer = Bloop(torch.optim.SGD([w], lr=1.0), weight=1.0, rate=rate)
    for train, aux in zip(first, second, strict=True):
        optimizer.zero_grad()
        before = w.detach().clone()
        optimizer.auxiliary((w * aux).sum())
        (w * train).sum().backward()
        optimizer.step()
    return before - w.detach()


def test_without_an_average_it_is_half_of_pcgrad():
    """P232, accept: torchjd's PCGrad is the reference. In conflict it is Bloop both ways round, at rate 1."""
    aggregation = pytest.importorskip("torchjd.aggregation")
    draw, met = torch.Generator().manual_seed(4), [0, 0]
    for _ in range(40):
        train, aux = torch.randn(2, 6, generator=draw, dtype=torch.float64)
        both = direction([train], [aux]) + direction([aux], [train]) - train - aux
        theirs = aggregation.PCGrad()(torch.stack([train, aux]))
        torch.testing.assert_close(theirs, pcgrad(train, aux), rtol=1e-6, atol=1e-6)
        conflict = bool(train @ aux < 0)
        met[conflict] += 1
        assert torch.allclose(both, theirs, rtol=1e-6, atol=1e-6) == conflict
    assert min(met) > 5


def test_without_auxiliary_loss_it_is_the_inner_optimizer():
    one, two = parameters(), parameters()
    around, plain = Bloop(torch.optim.AdamW(one, lr=0.01)), torch.optim.AdamW(two, lr=0.01)
    for step in range(5):
        for p, q in zip(one, two, strict=True):
            p.grad = torch.randn(p.shape, generator=torch.Generator().manual_seed(step), dtype=p.dtype)
            q.grad = p.grad.clone()
        around.step()
        plain.step()
    assert all(torch.equal(p, q) for p, q in zip(one, two, strict=True))


def test_a_head_of_the_auxiliary_loss_alone_is_trained():
    """Its training gradient is zero: d = weight * g_aux."""
    w, head = nn.Parameter(torch.ones(2)), nn.Parameter(torch.tensor([2.0, -1.0]))
    optimizer = Bloop(torch.optim.SGD([w, head], lr=0.1), weight=0.5)
    for _ in range(2):
        optimizer.zero_grad()
        before = head.detach().clone()
        optimizer.auxiliary((3 * head).sum())
        w.square().sum().backward()
        optimizer.step()
        torch.testing.assert_close(head.detach(), before - 0.1 * 0.5 * 3)
        assert head.grad is None


def test_resumes_with_its_average():
    def advance(optimizer, p, steps):
        for step in steps:
            draw = torch.Generator().manual_seed(step)
            a, b = torch.randn(5, generator=draw), torch.randn(5, generator=draw)
            optimizer.zero_grad()
            optimizer.auxiliary((p * a).sum())
            (p * b).sum().backward()
            optimizer.step()

    one = nn.Parameter(torch.ones(5))
    whole = Bloop(torch.optim.AdamW([one], lr=0.1))
    advance(whole, one, range(6))
    two = nn.Parameter(torch.ones(5))
    first = Bloop(torch.optim.AdamW([two], lr=0.1))
    advance(first, two, range(3))
    second = Bloop(torch.optim.AdamW([two], lr=0.5))
    second.load_state_dict(first.state_dict())
    advance(second, two, range(3, 6))
    assert torch.equal(one, two)


def test_auxiliary_losses_add_up_and_may_share_the_graph():
    p = nn.Parameter(torch.tensor([1.0, 2.0]))
    optimizer = Bloop(torch.optim.SGD([p], lr=0.1))
    hidden = p * 3
    optimizer.auxiliary(hidden[0])
    optimizer.auxiliary(hidden[1])
    hidden.sum().backward()
    assert torch.equal(next(iter(optimizer._auxiliary.values())), torch.tensor([3.0, 3.0]))
    optimizer.step()
    assert not optimizer._auxiliary


def quadratic(way, seed, steps=4000, lr=0.05):
    """20 dimensions, 5 of them constrained by a noisy training loss; the auxiliary optimum lies elsewhere."""
    draw = torch.Generator().manual_seed(seed)
    target, w = torch.ones(20), nn.Parameter(torch.zeros(20))
    inner = torch.optim.SGD([w], lr=lr)
    rate = {"bloop": 0.01, "present": 1.0}.get(way)
    optimizer = Bloop(inner, weight=1.0, rate=rate) if rate else inner
    tail = []
    for step in range(steps):
        noise = torch.randn(20, generator=draw)
        noise[5:] = 0.0
        optimizer.zero_grad()
        aux = 0.5 * (w - target).square().sum()
        train = 0.5 * w[:5].square().sum() + (w * noise).sum()
        if rate:
            optimizer.auxiliary(aux)
            train.backward()
        elif way == "pcgrad":
            w.grad = pcgrad(*(torch.autograd.grad(loss, w)[0] for loss in (train, aux)))
        else:
            (train + aux).backward()
        inner.param_groups[0]["lr"] = lr * (1 - step / steps)
        optimizer.step()
        if step >= steps - 200:
            tail.append((0.5 * w[:5].square().sum().item(), 0.5 * (w[5:] - 1).square().sum().item()))
    return torch.tensor(tail).mean(0)


@pytest.mark.slow
def test_keeps_the_training_loss_where_sums_and_present_gradients_do_not():
    """P232, accept: training loss <= 0.2x the weighted sum and <= 0.3x projections without an average."""
    runs = {
        way: torch.stack([quadratic(way, s) for s in (91, 92, 93)]).mean(0)
        for way in ("bloop", "present", "pcgrad", "sum")
    }
    assert runs["bloop"][0] <= 0.2 * runs["sum"][0]
    assert runs["bloop"][0] <= 0.3 * min(runs["present"][0], runs["pcgrad"][0]), runs
    assert all(run[1] < 1e-3 for run in runs.values())  # the free directions reach the auxiliary optimum


def test_refuses():
    with pytest.raises(ValueError, match="rate is 0"):
        Bloop(torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=1.0), rate=0.0)
