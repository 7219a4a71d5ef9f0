"""Test ``vario.methods.hpo.implicit_hypergradient``."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from tests.methods.hpo.ridge import Ridge
from vario.methods.hpo import implicit_hypergradient
from vario.methods.hpo.implicit_hypergradient import inverse_hessian_product


def at_optimum(ridge, lam=-0.5, **settings):
    w = ridge.optimum(lam).requires_grad_()
    hyper = torch.tensor([lam], dtype=torch.float64, requires_grad=True)
    return implicit_hypergradient(ridge.train(w, hyper), ridge.valid(w), [w], [hyper], **settings)[0].item()


@pytest.mark.parametrize("seed", [1, 2])
def test_error_falls_as_the_series_says(seed):
    """P301, accept: the solve's error stays below (1 - alpha mu_min)^(J + 1), and is gone at J = 2,000."""
    ridge = Ridge(seed)
    curved = ridge.curvature(-0.5)
    values = torch.linalg.eigvalsh(curved)
    alpha = 1 / values[-1].item()
    w = ridge.optimum(-0.5).requires_grad_()
    slope = torch.autograd.grad(ridge.train(w, torch.tensor([-0.5], dtype=w.dtype)), w, create_graph=True)
    vector = torch.autograd.grad(ridge.valid(w), w)
    exact = torch.linalg.solve(curved, vector[0])
    for terms in (0, 1, 5, 20, 100):
        (found,) = inverse_hessian_product(slope, [w], vector, terms=terms, alpha=alpha)
        gone = (found - exact) @ curved @ (found - exact)  # in the norm of H, which the series commutes with
        bound = (1 - alpha * values[0].item()) ** (terms + 1)
        assert (gone / (exact @ curved @ exact)).sqrt().item() <= bound + 1e-12
    assert at_optimum(ridge, terms=2000, alpha=alpha) == pytest.approx(ridge.hypergradient(-0.5), rel=1e-12)


@pytest.mark.parametrize("steps", [1, 4, 15])
def test_is_the_gradient_through_the_last_steps(steps):
    """P301, accept: J + 1 unrolled gradient steps from the optimum, to 1e-6."""
    ridge, alpha, lam = Ridge(3), 0.2, -0.5
    hyper = torch.tensor([lam], dtype=torch.float64, requires_grad=True)
    w = ridge.optimum(lam).requires_grad_()
    moved = w
    for _ in range(steps):
        (slope,) = torch.autograd.grad(ridge.train(moved, hyper), moved, create_graph=True)
        moved = moved - alpha * slope
    (unrolled,) = torch.autograd.grad(ridge.valid(moved), hyper)
    ours = at_optimum(ridge, terms=steps - 1, alpha=alpha)
    assert abs(ours - unrolled.item()) < 1e-6


def test_finds_the_best_decay():
    ridge = Ridge(14, noise=2.0)
    hyper = torch.tensor([-2.0], dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([hyper], lr=0.1)
    for _ in range(80):
        w = ridge.optimum(hyper.item()).requires_grad_()
        implicit_hypergradient(
            ridge.train(w, hyper), ridge.valid(w), [w], [hyper], terms=60, alpha=0.3, write=True
        )
        optimizer.step()
    assert hyper.item() == pytest.approx(ridge.best(), abs=0.02)


def test_direct_part_and_what_does_not_matter():
    """A hyperparameter of the validation loss alone gets its plain gradient; an idle one gets zero."""
    w = torch.ones(2, requires_grad=True)
    direct, idle = torch.tensor([3.0], requires_grad=True), torch.ones(2, requires_grad=True)
    train = (w - 1).square().sum()
    found = implicit_hypergradient(train, (direct * w).sum(), [w], [direct, idle])
    assert found[0].item() == 2.0 and found[1].tolist() == [0.0, 0.0]
    assert w.grad is None and direct.grad is None


def test_refuses():
    w, hyper = torch.ones(1, requires_grad=True), torch.ones(1, requires_grad=True)
    loss = lambda: (100 * w * w * hyper).sum()
    with pytest.raises(FloatingPointError, match=r"smaller alpha, for example 0\.1"):
        implicit_hypergradient(loss(), w.sum(), [w], [hyper], alpha=1.0)
    with pytest.raises(ValueError, match="require gradients"):
        implicit_hypergradient(loss(), w.sum(), [w], [torch.ones(1)])
    with pytest.raises(ValueError, match="terms -1"):
        implicit_hypergradient(loss(), w.sum(), [w], [hyper], terms=-1)


def flipped_digits(seed, share):
    """1,000 training digits with ``share`` of the labels wrong, 400 clean ones for validation."""
    from tests.methods.digits import digits

    x, y, *test = digits()
    draw = torch.Generator().manual_seed(seed)
    labels = y[:1000].clone()
    wrong = torch.rand(1000, generator=draw) < share
    labels[wrong] = (labels[wrong] + torch.randint(1, 10, (int(wrong.sum()),), generator=draw)) % 10
    return x[:1000], labels, wrong, x[1000:], y[1000:], *test


@pytest.mark.slow
@pytest.mark.parametrize("seed", [111, 112])
def test_flipped_examples_lose_their_weight(seed):
    """P301, accept: digits with 30 % flipped labels: mean weight of the flipped < 0.5 x that of the clean."""
    x, y, wrong, xv, yv, *_ = flipped_digits(seed, 0.3)
    w = torch.zeros(64, 10, requires_grad=True)
    raw = torch.zeros(1000, requires_grad=True)
    inner = torch.optim.SGD([w], lr=0.5)
    outer = torch.optim.Adam([raw], lr=0.1)
    train = lambda: (
        (torch.sigmoid(raw) * nn.functional.cross_entropy(x @ w, y, reduction="none")).mean()
        + 1e-3 * w.square().sum()
    )
    for _ in range(150):
        for _ in range(10):
            inner.zero_grad()
            train().backward()
            inner.step()
        valid = nn.functional.cross_entropy(xv @ w, yv)
        implicit_hypergradient(train(), valid, [w], [raw], terms=20, alpha=0.5, write=True)
        outer.step()
    weights = torch.sigmoid(raw).detach()
    assert weights[wrong].mean() < 0.5 * weights[~wrong].mean()


def test_closed_form_itself():
    """The closed form that the tests lean on, against differences."""
    ridge, step = Ridge(5), 1e-5
    rise = float(ridge.valid(ridge.optimum(-0.5 + step)) - ridge.valid(ridge.optimum(-0.5 - step)))
    assert ridge.hypergradient(-0.5) == pytest.approx(rise / (2 * step), rel=1e-6)
    assert math.isfinite(ridge.best())
