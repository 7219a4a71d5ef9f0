"""Test ``vario.methods.schedules.norm_test``."""

from __future__ import annotations

import math

import pytest
import torch

from tests.methods.schedules.least_squares import LeastSquares
from vario.methods.schedules import NormTest


def test_proposes_the_closed_form_on_least_squares():
    """P030, accept: within 10 % of tr(Sigma) / (eta^2 |g|^2)."""
    problem = LeastSquares(seed=5)
    grads = problem.grads(40000)
    mean = grads.mean(0)
    variance = (grads - mean).square().sum(1).mean().item()
    test = NormTest(range(10**6), 8, eta=0.5)
    proposed = test.update(variance=variance, grad_sq=mean.square().sum().item())
    exact = problem.variance / (0.25 * problem.grad_sq)
    assert abs(proposed - exact) < 0.1 * exact and proposed > 50


def test_grows_only_when_the_test_fails():
    test = NormTest(range(10**4), 64, eta=1.0, largest=512)
    assert test.update(variance=63.0, grad_sq=1.0) == 64
    assert test.update(variance=64.5, grad_sq=1.0) == 65
    assert test.update(variance=1.0, grad_sq=1.0) == 65
    assert test.update(variance=1e9, grad_sq=1.0) == 512


def test_broken_measurements_do_not_decide():
    test = NormTest(range(100), 8)
    assert test.update(variance=math.nan, grad_sq=1.0) == 8
    assert test.update(variance=math.inf, grad_sq=1.0) == 8
    assert test.update(variance=0.0, grad_sq=0.0) == 8
    assert test.update(variance=1.0, grad_sq=0.0) == 100


def test_refuses():
    with pytest.raises(ValueError, match="eta"):
        NormTest(range(10), 2, eta=0.0)
    with pytest.raises(ValueError, match="at least one example"):
        NormTest(range(10), 0)


@pytest.mark.slow
def test_fewer_steps_at_equal_examples():
    """P030, accept: MNIST-5k: batch x8, steps <= 60 % of the fixed batch, accuracy within 0.5 point.

    Left to grow to x64 (largest=1024) it lost 0.7 points in 20 epochs: the ceiling matters."""
    from tests.methods.digits import accuracy, mnist, network

    x, y, x_test, y_test = mnist()
    results = {}
    for grow in (False, True):
        scores, steps = [], 0
        for seed in range(71, 76):
            model, draw = network(seed), torch.Generator().manual_seed(seed)
            optimizer = torch.optim.Adagrad(model.parameters(), lr=0.05)
            order = torch.utils.data.RandomSampler(range(len(x)), generator=draw)
            test = NormTest(order, 16, eta=1.0, largest=128)
            for _ in range(20):
                for batch in test:
                    step(model, optimizer, x[batch], y[batch], test if grow and steps % 10 == 0 else None)
                    steps += 1
            scores.append(accuracy(model, x_test, y_test))
            assert test.batch_size >= (128 if grow else 16)
        results[grow] = (sum(scores) / 5, steps)
    assert results[True][1] <= 0.6 * results[False][1]
    assert abs(results[True][0] - results[False][0]) <= 0.005


def step(model, optimizer, x, y, test):
    if test is not None:
        params = {name: p.detach() for name, p in model.named_parameters()}

        def loss(weights, one, label):
            out = torch.func.functional_call(model, weights, (one[None],))
            return torch.nn.functional.cross_entropy(out, label[None])

        grads = torch.func.vmap(torch.func.grad(loss), (None, 0, 0))(params, x, y)
        flat = torch.cat([g.flatten(1) for g in grads.values()], dim=1)
        mean = flat.mean(0)
        test.update(variance=(flat - mean).square().sum(1).mean().item(), grad_sq=mean.square().sum().item())
    optimizer.zero_grad()
    torch.nn.functional.cross_entropy(model(x), y).backward()
    optimizer.step()
