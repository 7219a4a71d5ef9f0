"""Trace and diagonal against dense algebra; intervals by repetition."""

from __future__ import annotations

import math

import pytest
import torch

from tests.capture.curvature.test_lanczos import OUTLIERS, spectrum
from vario.capture.curvature.trace import hutch_pp, hutchinson, mean_of

MATRIX = spectrum(OUTLIERS)
TRACE = float(OUTLIERS.sum())


def product(v: torch.Tensor) -> torch.Tensor:
    return MATRIX @ v


def test_intervals_cover_the_trace_as_often_as_they_say() -> None:
    for estimate, least in (
        (lambda seed: hutchinson(product, MATRIX[0], probes=8, seed=seed)[0], 0.86),  # skewed by the outlier
        (lambda seed: hutch_pp(product, MATRIX[0], products=24, seed=seed), 0.90),
    ):
        found = [estimate(seed) for seed in range(200)]
        covered = sum(one.low <= TRACE <= one.high for one in found) / 200
        assert least <= covered <= 0.985
        mean = sum(one.value for one in found) / 200
        spread = (sum((one.value - mean) ** 2 for one in found) / 199 / 200) ** 0.5
        assert abs(mean - TRACE) < 3 * spread, "unbiased"


def test_outliers_cost_hutch_pp_nothing() -> None:
    values = torch.cat([torch.full((190,), 1e-3), torch.linspace(5, 100, 10)]).double()
    few = spectrum(values)
    plain = hutchinson(lambda v: few @ v, few[0], probes=30)[0]
    better = hutch_pp(lambda v: few @ v, few[0], products=36)
    assert better.high - better.low < 0.02 * (plain.high - plain.low)
    assert better.value == pytest.approx(float(values.sum()), rel=1e-3)
    assert better.products == 36


def test_a_diagonal_matrix_is_known_from_one_probe() -> None:
    entries = torch.arange(1.0, 6.0)
    trace, diagonal, spread = hutchinson(lambda v: entries * v, entries, probes=3)
    assert (trace.value, trace.low, trace.high) == (15.0, 15.0, 15.0)
    assert torch.equal(diagonal, entries) and not spread.any()
    alone = hutchinson(lambda v: entries * v, entries, probes=1)
    assert alone[0].high == math.inf and alone[2].isinf().all()


def test_the_diagonal_lies_within_its_error() -> None:
    _, diagonal, spread = hutchinson(product, MATRIX[0], probes=400)
    off = (diagonal - MATRIX.diagonal()) / spread
    assert off.abs().max() < 5 and 0.8 < float(off.square().mean()) < 1.2


def test_students_interval_by_hand() -> None:
    found = mean_of([1.0, 3.0], offset=10.0)
    assert found.value == 12.0
    assert found.high - found.value == pytest.approx(12.71 * math.sqrt(2) / math.sqrt(2))


def test_what_is_not_finite_is_an_error() -> None:
    for estimate in (hutchinson, hutch_pp):
        with pytest.raises(ArithmeticError, match="not finite"):
            estimate(lambda v: v * float("inf"), torch.ones(6))
