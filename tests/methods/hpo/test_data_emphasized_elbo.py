"""Test ``vario.methods.hpo.data_emphasized_elbo``."""

from __future__ import annotations

import functools
import math

import pytest
import torch
from torch import nn
from torch.distributions import Normal, kl_divergence

from vario.methods.hpo import DataEmphasizedELBO


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()


def test_divergence_is_that_of_gaussians_at_the_best_variance():
    model = network()
    anchor = {"0.weight": torch.ones(4, 3, dtype=torch.float64)}
    groups = [["0.weight", "0.bias"], ["2.weight", "2.bias"]]
    elbo = DataEmphasizedELBO(model, examples=5, groups=groups, anchors=anchor, sigma=0.3)
    named = dict(model.named_parameters())
    total = 0.0
    for group, variance in zip(groups, elbo.prior_variances(), strict=True):
        q = [Normal(named[n], elbo.sigma.detach()) for n in group]
        center = [anchor.get(n, torch.zeros_like(named[n])) for n in group]

        def kl(v, q=q, center=center):
            return sum(
                kl_divergence(a, Normal(c, v**0.5)).sum() for a, c in zip(q, center, strict=True)
            ).item()

        total += kl(variance)
        assert kl(variance) < min(kl(0.99 * variance), kl(1.01 * variance))
    assert elbo.divergence().item() == pytest.approx(total, rel=1e-9)


def test_kappa_and_the_scale_of_the_loss():
    model = network()
    nll = torch.tensor(1.5, dtype=torch.float64)
    assert DataEmphasizedELBO(model, examples=13).kappa == 2.0
    assert DataEmphasizedELBO(model, examples=1000).kappa == 1.0
    elbo = DataEmphasizedELBO(model, examples=13)
    assert elbo(nll).item() == pytest.approx(1.5 + elbo.divergence().item() / 26)


def test_drawn_weights_have_mean_and_spread():
    model = nn.Linear(1, 1, bias=False).double()
    elbo = DataEmphasizedELBO(model, examples=3, sigma=0.2)
    torch.manual_seed(1)
    x = torch.ones(1, 1, dtype=torch.float64)
    drawn = torch.stack([elbo.predict(x)[0, 0] for _ in range(3000)])
    assert (drawn.mean() - model.weight.item()).abs() < 4 * 0.2 / 3000**0.5
    assert drawn.std().item() == pytest.approx(0.2, rel=0.06)
    assert torch.equal(elbo.eval().predict(x), model(x))


def test_gradient_of_sigma_is_that_of_the_drawn_weights():
    """d/dsigma of a function of w + sigma eps is its slope times eps."""
    model = nn.Linear(2, 1, bias=False).double()
    elbo = DataEmphasizedELBO(model, examples=3, sigma=0.5)
    torch.manual_seed(2)
    elbo.predict(torch.eye(2, dtype=torch.float64)).sum().backward()
    torch.manual_seed(2)
    eps = torch.randn(1, 2, dtype=torch.float64).sum()
    slope = torch.sigmoid(elbo.raw_sigma.detach())  # of softplus
    assert elbo.raw_sigma.grad.item() == pytest.approx((eps * slope).item())


def test_frozen_parameters_have_no_part():
    model = network()
    model[0].requires_grad_(False)
    elbo = DataEmphasizedELBO(model, examples=3)
    assert elbo.size == 10
    assert [name for name, _ in elbo.named_parameters()] == ["raw_sigma"]


def test_refuses():
    with pytest.raises(ValueError, match="they name 2 of 4"):
        DataEmphasizedELBO(network(), examples=3, groups=[["0.weight", "0.bias"]])
    with pytest.raises(ValueError, match="examples 0"):
        DataEmphasizedELBO(network(), examples=0)
    with pytest.raises(ValueError, match=r"kappa 0\.0"):
        DataEmphasizedELBO(network(), examples=3, kappa=0.0)
    with pytest.raises(ValueError, match="they name 0 of 0"):
        DataEmphasizedELBO(network().requires_grad_(False), examples=3)
    with pytest.raises(ValueError, match=r"'0\.wieght', an anchor"):
        DataEmphasizedELBO(network(), examples=3, anchors={"0.wieght": torch.ones(4, 3)})


def fit(x, y, noise, kappa):
    """Linear Gaussian model on features x, the expectation over q in closed form: means, prior variance."""
    model = nn.Linear(x.shape[1], 1, bias=False).double()
    nn.init.zeros_(model.weight)
    elbo = DataEmphasizedELBO(model, examples=len(x), kappa=kappa, sigma=0.05)
    optimizer = torch.optim.LBFGS(
        [*model.parameters(), *elbo.parameters()],
        max_iter=3000,
        tolerance_grad=1e-10,
        tolerance_change=1e-14,
        line_search_fn="strong_wolfe",
    )
    gram = x.square().sum(1).mean()

    def closure():
        optimizer.zero_grad()
        nll = ((model(x)[:, 0] - y).square().mean() + elbo.sigma.square() * gram) / (2 * noise**2)
        loss = elbo(nll)
        loss.backward()
        return loss

    optimizer.step(closure)
    return model.weight.detach()[0], elbo.prior_variances()[0]


def test_learns_the_evidence_maximiser_when_data_abound():
    """P283, accept: Bayesian linear regression, D << N, kappa = 1: lambda within 5 % of BayesianRidge's."""
    linear = pytest.importorskip("sklearn.linear_model")
    draw = torch.Generator().manual_seed(131)
    x = torch.randn(600, 12, generator=draw, dtype=torch.float64)
    y = x @ (0.7 * torch.randn(12, generator=draw, dtype=torch.float64))
    y = y + 0.5 * torch.randn(600, generator=draw, dtype=torch.float64)
    theirs = linear.BayesianRidge(
        fit_intercept=False, alpha_1=0, alpha_2=0, lambda_1=0, lambda_2=0, tol=1e-10
    )
    theirs.fit(x.numpy(), y.numpy())
    noise = 1 / math.sqrt(theirs.alpha_)
    _, ours = fit(x, y, noise, 1.0)
    assert ours == pytest.approx(1 / theirs.lambda_, rel=0.05)


def fourier(seed, examples=60, rank=1024, noise=0.1):
    """Random Fourier features of points on [-2, 2], for a wavy function."""
    draw = torch.Generator().manual_seed(seed)
    omega = 4 * torch.randn(rank, generator=draw, dtype=torch.float64)
    phase = 2 * math.pi * torch.rand(rank, generator=draw, dtype=torch.float64)
    features = lambda t: math.sqrt(2 / rank) * torch.cos(t[:, None] * omega + phase)
    t = 4 * torch.rand(examples, generator=draw, dtype=torch.float64) - 2
    wave = lambda t: torch.sin(3 * t) + 0.3 * torch.cos(7 * t)
    y = wave(t) + noise * torch.randn(examples, generator=draw, dtype=torch.float64)
    test = torch.linspace(-2, 2, 400, dtype=torch.float64)
    return features(t), y, features(test), wave(test)


PRIORS = torch.logspace(-4, 3, 60, dtype=torch.float64).tolist()


def weights(x, y, variance, noise=0.1):
    return x.T @ torch.linalg.solve(x @ x.T + noise**2 / variance * torch.eye(len(x), dtype=x.dtype), y)


DRAWS = range(701, 749)  # looked at once


def log_evidence(x, y, variance, noise=0.1):
    """Of a fixed prior, exact: y ~ N(0, variance x x^T + noise^2 I)."""
    factor = torch.linalg.cholesky(variance * x @ x.T + noise**2 * torch.eye(len(x), dtype=x.dtype))
    return -0.5 * (y @ torch.cholesky_solve(y[:, None], factor)[:, 0]) - factor.diagonal().log().sum()


@functools.cache
def errors():
    """Test RMSE, (draws, priors), of each fixed prior; and (draws,) of what three ways come to.

    kappa = D / N, kappa = 1, and the fixed prior of the largest evidence.
    """
    found = []
    for seed in DRAWS:
        x, y, x_test, truth = fourier(seed)
        candidates = [weights(x, y, v) for v in PRIORS] + [fit(x, y, 0.1, kappa)[0] for kappa in (None, 1.0)]
        off = [(x_test @ w - truth).square().mean().sqrt().item() for w in candidates]
        likeliest = max(range(len(PRIORS)), key=lambda k, x=x, y=y: log_evidence(x, y, PRIORS[k]))
        found.append([*off, off[likeliest]])
    table = torch.tensor(found)
    return table[:, :-3], table[:, -3], table[:, -2], table[:, -1]


@pytest.mark.slow
def test_finds_the_regularization_without_validation_data():
    """P283, accept: 60 examples, D = 1,024: RMSE within 5 % of the best fixed prior, below kappa = 1.

    The mean over 48 draws of the data, against the prior that is best over these draws.
    """
    fixed, ours, plain, _ = errors()
    assert ours.mean() <= 1.05 * fixed.mean(0).min() and ours.mean() < plain.mean()


@pytest.mark.slow
def test_nobody_is_within_five_percent_of_the_best_prior_of_each_draw():
    """Why the row of P283 is held over draws: the best prior of a single draw is known to its test set alone.

    Neither this method, nor the exact evidence, nor even the fixed prior that is chosen on all test sets
    together meets it in each draw: the upper ends of their 95 % intervals lie below 95 %.
    """
    from scipy.stats import binomtest

    fixed, ours, _, likeliest = errors()
    limit, alike = 1.05 * fixed.min(1).values, fixed[:, fixed.mean(0).argmin()]
    counts = [int((way <= limit).sum()) for way in (ours, likeliest, alike)]
    assert max(binomtest(k, len(DRAWS)).proportion_ci().high for k in counts) < 0.95, counts
