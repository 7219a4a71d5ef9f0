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
        return 1 / (1 + np.exp(-(0.8 * np.log(c)[:, None] - start)))

    shown = rng.binomial(100, at(compute)) / 100
    return compute, shown, float(at(np.array([1000.0])).mean())


def test_ten_times_more_compute_is_foretold() -> None:
    compute, shown, truth = _benchmark(0.1)
    said = forecast(compute, shown, 1000.0)
    assert said.refused is None and abs(said.value - truth) < 0.08


def test_mostly_emergent_tasks_are_refused() -> None:
    compute, shown, _ = _benchmark(0.7)
    said = forecast(compute, shown, 1000.0)
    assert said.refused is not None and np.isnan(said.value)
    with pytest.raises(ValueError, match="4 or more"):
        forecast(compute[:2], shown[:2], 10.0)
