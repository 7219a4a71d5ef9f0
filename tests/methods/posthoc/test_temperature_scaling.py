"""Test ``vario.methods.posthoc.temperature_scaling``."""

from __future__ import annotations

import functools
import math

import pytest
import torch
from scipy.optimize import minimize_scalar
from torch import nn

from vario.methods.posthoc import fit_temperature, temperature_scaling


def sample(seed, sharp, n=2000, classes=5):
    """Logits whose right temperature is ``sharp``: labels are drawn from softmax(logits / sharp)."""
    draw = torch.Generator().manual_seed(seed)
    z = 2 * torch.randn(n, classes, generator=draw, dtype=torch.float64)
    return sharp * z, torch.multinomial(z.softmax(1), 1, generator=draw)[:, 0]


def test_two_classes_have_a_closed_form():
    for gap, right in ((4.0, 0.75), (10.0, 0.9), (0.5, 0.6)):
        z = torch.zeros(100, 2)
        z[:, 0] = gap
        y = (torch.arange(100) >= round(100 * right)).long()
        assert fit_temperature(z, y).value == pytest.approx(gap / math.log(right / (1 - right)), rel=1e-9)


@pytest.mark.parametrize("sharp", [0.3, 1.0, 3.0])
def test_is_the_minimum_also_in_float32(sharp):
    """P074, accept: the optimum to 1e-3 (here 1e-6); a package returns 1 for float32."""
    z, y = sample(11, sharp)
    found = minimize_scalar(
        lambda s: nn.functional.cross_entropy(z * math.exp(s), y).item(),
        bounds=(-3, 3),
        options={"xatol": 1e-10},
    )
    fit = fit_temperature(z, y)
    assert fit.value == pytest.approx(math.exp(-found.x), rel=1e-6)
    assert fit_temperature(z.float(), y).value == pytest.approx(fit.value, rel=1e-5)
    assert fit.value == pytest.approx(sharp, rel=0.15) and fit.loss_after <= fit.loss_before


def test_calibrated_predictions_are_enough_and_others_are_not():
    verdicts = [fit_temperature(*sample(seed, 3.0)).enough for seed in range(20, 40)]
    assert sum(verdicts) >= 16  # five of a hundred are refused by chance
    z, y = sample(5, 1.0)
    z[:1000] *= 8  # one half is too sure, the other is right
    assert not fit_temperature(z, y).enough


def test_model_is_wrapped():
    torch.manual_seed(0)
    model = nn.Linear(4, 3)
    x, y = torch.randn(300, 4), torch.randint(3, (300,))
    new = temperature_scaling(model, x, y)
    torch.testing.assert_close(new(x), model(x) / fit_temperature(model(x), y).value)
    assert "temperature" in new.state_dict()


def test_refuses():
    with pytest.raises(ValueError, match="wants logits"):
        fit_temperature(torch.ones(3), torch.zeros(3))
    with pytest.raises(ValueError, match="not finite"):
        fit_temperature(torch.tensor([[math.inf, 0.0]]), torch.zeros(1))


@functools.cache
def overlap(flip, seed):
    """Ten Gaussian classes, a network trained to almost no loss; the fit, and the loss above Bayes."""
    draw = torch.Generator().manual_seed(seed)
    centers = 3 * torch.randn(10, 10, generator=draw)

    def data(n):
        y = torch.randint(10, (n,), generator=draw)
        x = centers[y] + torch.randn(n, 10, generator=draw)
        noisy = torch.where(torch.rand(n, generator=draw) < flip, torch.randint(10, (n,), generator=draw), y)
        clean = (-torch.cdist(x, centers).square() / 2).softmax(1)
        return x, noisy, (1 - flip) * clean + flip / 10

    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(10, 256), nn.ReLU(), nn.Linear(256, 10))
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    x, y, _ = data(1000)
    for _ in range(800):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    x, y, posterior = data(4000)
    with torch.no_grad():
        fit = fit_temperature(model(x), y)
    bayes = -posterior.gather(1, y[:, None]).log().mean().item()
    return fit, fit.loss_after - bayes


@pytest.mark.slow
def test_overlap_breaks_temperature_scaling():
    """P074, accept: T and the loss above Bayes rise with flipped labels; enough at 0, not at .3."""
    for seed in (60, 61, 62):
        clean, noisy = overlap(0.0, seed), overlap(0.3, seed)
        print(seed, clean, noisy)
        assert noisy[0].value > 1.5 * clean[0].value and noisy[1] > clean[1] + 0.1
        assert clean[0].enough and not noisy[0].enough
