from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.instruments.sample import draw, exact, read
from vario.capture.entries import log_edges
from vario.instruments.gradient_distribution import GradientDistribution


def histograms(**grads: torch.Tensor | None) -> dict[str, list[float]]:
    found = read(GradientDistribution(), names=list(grads), grads=list(grads.values()))
    return {where: value for (_, where), value in found.items()}


def wide(count: int, seed: int) -> torch.Tensor:
    """Magnitudes over the whole range of the bins and beyond it on both sides."""
    generator = torch.Generator().manual_seed(seed)
    powers = torch.rand(count, generator=generator) * 40 - 28
    signs = torch.randint(0, 2, (count,), generator=generator) * 2 - 1
    return (signs * 10.0 ** powers.double()).float()


def wanted(grad: torch.Tensor) -> list[float]:
    magnitude = np.abs(exact(grad.float()).ravel())
    magnitude = magnitude[np.isfinite(magnitude) & (magnitude > 0)]
    edges = log_edges()
    counts, _ = np.histogram(np.clip(magnitude, edges[0], np.nextafter(edges[-1], 0)), edges)
    return counts.tolist()


def test_edges_are_half_decades_to_eight_binary_digits() -> None:
    half_decades = 10.0 ** (-24 + np.arange(65) / 2)
    assert np.abs(log_edges() / half_decades - 1).max() <= 2**-8
    assert (log_edges() == torch.from_numpy(log_edges()).bfloat16().double().numpy()).all()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_counts_equal_those_of_numpy(dtype: torch.dtype) -> None:
    grads = {
        "a": wide(300_000, 0),
        "b": wide(50, 1).reshape(5, 10),
        "c": draw(140_000, scale=1e-3),
        "d": wide(3, 2),
    }
    grads = {name: grad.to(dtype) for name, grad in grads.items()}
    found = histograms(**grads)
    for name, grad in grads.items():
        assert found[name] == wanted(grad)
    assert found[""] == np.sum([found[name] for name in grads], axis=0).tolist()


def test_the_edges_themselves_belong_to_the_bin_above() -> None:
    at = torch.from_numpy(log_edges()).float()
    below = torch.nextafter(at, torch.zeros(()))
    assert histograms(a=at[:-1])["a"] == [1.0] * 64
    assert histograms(a=below[1:])["a"] == [1.0] * 64


def test_zeros_and_what_is_not_finite_are_left_out_and_the_range_is_open() -> None:
    grad = torch.tensor([0.0, -0.0, float("nan"), float("inf"), float("-inf"), 1e-30, 3e38, -2e-38])
    found = histograms(a=grad)["a"]
    assert (found[0], found[-1], sum(found)) == (2.0, 1.0, 3.0)


def test_underflow_in_half_precision_leaves_its_mark() -> None:
    grad = draw(10_000, scale=1e-8)
    assert sum(histograms(a=grad)["a"]) == 10_000
    assert sum(histograms(a=grad.half())["a"]) < 5_000


def test_it_is_silent_for_missing_and_empty_gradients() -> None:
    assert set(histograms(a=None, b=torch.zeros(0), c=torch.ones(2))) == {"c", ""}
    assert histograms(a=None) == read(GradientDistribution()) == {}
