"""Test ``vario.laws.filtering``."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tests.laws.tables import path
from vario.laws.filtering import Pool, best_count, error, fit_pool


def test_the_first_and_second_pass_by_hand() -> None:
    pool = Pool(-0.2, 2.0, 1000.0)
    assert float(error([pool], 500.0)[0]) == pytest.approx(500**-0.2)
    assert float(error([pool], 2000.0)[0]) == pytest.approx(1000**-0.2 * 2 ** (-0.2 * 0.5**0.5))


def test_planted_utility_and_half_life() -> None:
    rng = np.random.default_rng(0)
    samples = np.geomspace(200, 20_000, 16)
    for b, tau in ((-0.25, 3.0), (-0.12, 6.0)):
        curve = 1.5 * error([Pool(b, tau, 1000.0)], samples) * np.exp(0.002 * rng.standard_normal(16))
        pool, scale, _ = fit_pool(samples, curve, 1000.0, floor=0.0)
        assert pool.b == pytest.approx(b, rel=0.05) and pool.tau == pytest.approx(tau, rel=0.25)
        assert scale == pytest.approx(1.5, rel=0.1)
    with pytest.raises(ValueError, match="5 or more"):
        fit_pool(samples[:3], curve[:3], 1000.0)


def test_harder_filtering_only_pays_at_small_compute() -> None:
    kept = json.loads(path("filtering_parameters.json").read_text())[0]
    order = np.argsort(kept["b_values"][:4])
    pools = [Pool(kept["b_values"][i], kept["c_values"][i], 12.8) for i in order]
    counts = [best_count(pools, n) for n in (32.0, 64.0, 128.0, 640.0, 6400.0)]
    assert counts[0] == 1 and counts == sorted(counts) and counts[-1] >= 3
