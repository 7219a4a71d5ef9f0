"""Test ``vario.methods.schedules.noise_scale_batch``."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.methods.schedules.least_squares import LeastSquares
from vario.methods.schedules import NoiseScaleBatch


def test_estimates_the_closed_form_of_least_squares():
    """P173, accept: within 3 % of the exact noise scale from 200 pairs (10, 1000)."""
    problem = LeastSquares(size=20, seed=9)
    plan = NoiseScaleBatch(range(10**6), 4, decay=1 - 1e-9, after=200)  # a plain mean
    for _ in range(200):
        small = sum(problem.grads(10).mean(0).square().sum().item() for _ in range(20)) / 20
        large = problem.grads(1000).mean(0).square().sum().item()
        plan.update(small_sq=small, large_sq=large, small=10, large=1000)
    exact = problem.variance / problem.grad_sq
    assert abs(plan.noise_scale - exact) < 0.03 * exact
    assert plan.batch_size == pytest.approx(exact, rel=0.1)


def test_noise_alone_is_flagged_not_called_zero():
    plan = NoiseScaleBatch(range(1000), 16, decay=0.0, after=1)
    assert plan.update(small_sq=4.0, large_sq=0.9, small=10, large=40) == 16
    assert plan.signal < 0 and plan.noise_scale is None


def test_one_example_and_the_batch_give_the_coherence_of_their_gradients():
    """P173, accept: with a small batch of one example, the noise scale is 1 / alpha - 1 of P033.

    alpha = |E g|^2 / E|g|^2, of a network's gradients of single examples; |E g|^2 without its bias.
    """
    torch.manual_seed(6)
    model = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 3)).double()
    x = torch.randn(40, 5, dtype=torch.float64) + 1
    y = (x[:, 0] > 1).long()
    held = {name: p.detach() for name, p in model.named_parameters()}

    def loss(weights, x, y):
        return nn.functional.cross_entropy(torch.func.functional_call(model, weights, (x[None],)), y[None])

    each = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0, 0))(held, x, y)
    rows = torch.cat([g.flatten(1) for g in each.values()], dim=1)
    plan = NoiseScaleBatch(range(10**6), 1, decay=0.0, after=1)
    plan.update(
        small_sq=rows.square().sum(1).mean().item(), large_sq=squared_norm(model, x, y), small=1, large=40
    )
    pairs = rows @ rows.T
    alpha = (pairs.sum() - pairs.trace()) / (40 * 39) / (pairs.trace() / 40)  # |E g|^2: products of two
    assert plan.noise_scale == pytest.approx((1 / alpha - 1).item(), rel=1e-9)
    biased = rows.mean(0).square().sum() / rows.square().sum(1).mean()
    assert plan.noise_scale != pytest.approx((1 / biased - 1).item(), rel=1e-2)


def test_share_and_ceiling():
    half = NoiseScaleBatch(range(1000), 4, decay=0.0, after=1, share=0.5)
    assert half.update(small_sq=5.0, large_sq=2.0, small=10, large=40) == 20
    capped = NoiseScaleBatch(range(1000), 4, decay=0.0, after=1, largest=32)
    assert capped.update(small_sq=5.0, large_sq=2.0, small=10, large=40) == 32


def test_resumes():
    one = NoiseScaleBatch(range(1000), 4, decay=0.9)
    one.update(small_sq=5.0, large_sq=2.0, small=10, large=40)
    two = NoiseScaleBatch(range(1000), 4, decay=0.9)
    two.load_state_dict(one.state_dict())
    for plan in (one, two):
        plan.update(small_sq=9.0, large_sq=2.5, small=10, large=40)
    assert one.noise_scale == two.noise_scale and one.batch_size == two.batch_size


def test_refuses():
    with pytest.raises(ValueError, match="small < large"):
        NoiseScaleBatch(range(10), 2).update(small_sq=1.0, large_sq=1.0, small=10, large=10)


def test_an_early_guess_does_not_stay():
    plan = NoiseScaleBatch(range(1000), 4, decay=0.9, after=3)
    sizes = [plan.update(small_sq=s, large_sq=2.0, small=10, large=40) for s in (7.9, 5.0, 5.0, 5.0)]
    assert sizes[:2] == [4, 4] and sizes[2] > 4


def steps_to(target, batch, lr, seed=301, most=3000, watch=None):
    """SGD steps of a small network until its loss on 1,000 training digits is below ``target``."""
    from tests.methods.digits import mnist, network

    x, y, *_ = mnist()
    model, draw = network(seed, hidden=32), torch.Generator().manual_seed(seed)
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    for step in range(most):
        if step % 5 == 0:
            with torch.no_grad():
                if nn.functional.cross_entropy(model(x[:1000]), y[:1000]) < target:
                    return step
        if watch is not None and step % 10 == 0:
            watch(model, x, y, draw)
        pick = torch.randint(len(x), (batch,), generator=draw)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x[pick]), y[pick]).backward()
        optimizer.step()
    return most


def squared_norm(model, x, y):
    grads = torch.autograd.grad(nn.functional.cross_entropy(model(x), y), list(model.parameters()))
    return sum(g.square().sum().item() for g in grads)


@pytest.mark.slow
def test_foretells_the_batch_at_which_steps_stop_falling():
    """P173, accept: MNIST-5k, b = 8 to 512, the best of a grid of rates for each: the fitted critical batch
    within a factor of 3 of the mean measured noise scale."""
    target, batches, rates = 0.25, [8, 16, 32, 64, 128, 256, 512], [0.05, 0.1, 0.2, 0.4, 0.8]
    steps = {b: min(steps_to(target, b, lr) for lr in rates) for b in batches}
    plan = NoiseScaleBatch(range(10**6), 4, decay=1 - 1e-9, after=10**9)  # a plain mean

    def watch(model, x, y, draw):
        for _ in range(4):
            small, large = (torch.randint(len(x), (b,), generator=draw) for b in (16, 1000))
            plan.update(
                small_sq=squared_norm(model, x[small], y[small]),
                large_sq=squared_norm(model, x[large], y[large]),
                small=16,
                large=1000,
            )

    steps_to(target, 64, 0.4, watch=watch)
    # S = least + least * critical / b: a straight line in 1 / b, each point by its share of error
    rows = torch.tensor([[1.0, 1 / b] for b in batches], dtype=torch.float64)
    seen = torch.tensor([steps[b] for b in batches], dtype=torch.float64)
    least, slope = torch.linalg.lstsq(rows / seen[:, None], torch.ones_like(seen)[:, None]).solution[:, 0]
    critical = (slope / least).item()
    print(steps, critical, plan.noise_scale)
    assert 1 / 3 < critical / plan.noise_scale < 3, (steps, critical, plan.noise_scale)
