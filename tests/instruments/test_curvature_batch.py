"""Spiked Wishart (P017): least squares on data with one strong direction among 200."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from tests.instruments.curvature_sample import F64, measured
from tests.instruments.sample import read
from vario.instruments.curvature_batch import CurvatureBatch
from vario.laws.batch_curvature import wishart_eigenvalue
from vario.nouns import NotApplicable

SPIKE, WIDTH = 4.75, 200


def halves(rows: int, seed: int) -> dict[str, float]:
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, WIDTH, generator=draw, dtype=F64)
    x[:, 0] *= SPIKE**0.5
    weights = nn.Parameter(torch.zeros(WIDTH, 1, dtype=F64))
    loss = 0.5 * nn.functional.mse_loss((x @ weights)[:, 0], torch.randn(rows, generator=draw, dtype=F64))
    found = read(CurvatureBatch(), **measured("curvature_halves", loss, [weights]))
    return {series.removeprefix("curvature/"): value for (series, _), value in found.items()}


@pytest.mark.parametrize("rows", [200, 400, 1600])
def test_what_a_half_sees_follows_the_formula(rows: int) -> None:
    seen = np.mean([halves(rows, seed)["top_half"] for seed in range(6)])
    assert seen == pytest.approx(float(wishart_eigenvalue(SPIKE, WIDTH / (rows / 2))), rel=0.1)


def test_the_population_lies_between_and_the_middle_is_near() -> None:
    found = [halves(400, seed) for seed in range(20)]
    inside = [one["top_population_low"] <= SPIKE <= one["top_population_high"] for one in found]
    assert sum(inside) >= 17
    middle = np.mean([one["top_population"] for one in found])
    assert middle == pytest.approx(SPIKE, rel=0.1)
    assert np.mean([one["top_half"] for one in found]) > 1.15 * SPIKE, "uncorrected it is too high"
    # of x x^T times the strong direction v: E (x.v)^2 |x|^2 less its square, x.v having the variance SPIKE
    total = SPIKE + WIDTH - 1
    assert np.mean([one["batch_noise"] for one in found]) == pytest.approx(SPIKE * total + SPIKE**2, rel=0.25)


def test_few_examples_cannot_be_halved() -> None:
    weights = nn.Parameter(torch.zeros(2, 1, dtype=F64))
    loss = nn.functional.mse_loss(torch.ones(3, 2, dtype=F64) @ weights, torch.ones(3, 1, dtype=F64))
    with pytest.raises(NotApplicable, match="4 are needed"):
        measured("curvature_halves", loss, [weights])
    assert read(CurvatureBatch()) == {}
