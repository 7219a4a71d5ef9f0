"""Test ``vario.laws.downstream_difficulty``."""

from __future__ import annotations

import numpy as np
import pytest

from vario.laws.downstream_difficulty import forecast


def _benchmark(hard_share: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray, float]:
    rng = np.random.default_rng(seed)
    compute = np.geomspace(1, 100, 8)
    count = 200
    kind = np.where(np.arange(count) < hard_share * count, 2, np.arange(count) % 2)
    start = np.array([-1.0, 1.5, 9.0])[kind] + 0.2 * rng.standard_normal(count)

    def at(c: np.ndarray) -> np.ndarray:
        return np.asarray(1 / (1 + np.exp(-(0.8 * np.log(c)[:, None] - start))))

    shown = rng.binomial(100, at(compute)) / 100
    return compute, shown, float(at(np.array([1000.0])).mean())


def test_ten_times_more_compute_is_foretold() -> None:
    compute, shown, truth = _benchmark(0.1)
    said = forecast(compute, shown, 1000.0)
    assert said.refused is None and abs(said.value - truth) < 0.02


def test_mostly_emergent_tasks_are_refused() -> None:
    compute, shown, _ = _benchmark(0.7)
    said = forecast(compute, shown, 1000.0)
    assert said.refused is not None and np.isnan(said.value)
    with pytest.raises(ValueError, match="4 or more"):
        forecast(compute[:2], shown[:2], 10.0)


@pytest.mark.slow
def test_planted_groups_and_a_model_ten_times_larger() -> None:
    """P126: groups found with an adjusted Rand index above .8; the mean of 200 items, some emergent, within 2
    points in the mean of ten benchmarks, and at half the error of a logistic curve through the mean."""
    ours, direct, agreement = [], [], []
    for seed in range(10):
        compute, shown, truth = _benchmark(0.1, seed)
        said = forecast(compute, shown, 1000.0)
        ours.append(abs(said.value - truth))
        mean = np.clip(shown.mean(axis=1), 1e-3, 1 - 1e-3)
        slope, level = np.polyfit(np.log(compute), np.log(mean / (1 - mean)), 1)
        direct.append(abs(1 / (1 + np.exp(-(level + slope * np.log(1000.0)))) - truth))
        planted = np.where(np.arange(200) < 20, 2, np.arange(200) % 2)
        agreement.append(_adjusted_rand(said.clusters, planted))
    print("ours", np.mean(ours), "direct", np.mean(direct), "agreement", np.min(agreement))
    assert np.mean(ours) < 0.02 and np.mean(ours) < 0.5 * np.mean(direct) and np.min(agreement) > 0.8


def _adjusted_rand(a: np.ndarray, b: np.ndarray) -> float:
    table = np.array([[((a == i) & (b == j)).sum() for j in np.unique(b)] for i in np.unique(a)], float)
    pairs = lambda n: n * (n - 1) / 2  # noqa: E731
    both, rows, columns = pairs(table).sum(), pairs(table.sum(1)).sum(), pairs(table.sum(0)).sum()
    chance = rows * columns / pairs(table.sum())
    return float((both - chance) / ((rows + columns) / 2 - chance))
