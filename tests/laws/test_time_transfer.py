"""Test ``vario.laws.time_transfer``."""

from __future__ import annotations

import numpy as np
import pytest

from vario.laws._uncertainty import bootstrap
from vario.laws.fit import fit, predict
from vario.laws.time_transfer import TIME_TRANSFER


@pytest.mark.parametrize("gamma", [0.0, 1.0])
def test_the_two_regimes_are_told_apart(gamma: float) -> None:
    hits = 0
    for seed in range(5):
        rng = np.random.default_rng(seed)
        b, t = (grid.ravel() for grid in np.meshgrid(np.geomspace(16, 2048, 6), np.geomspace(1e8, 1e10, 6)))
        c = np.log(180.0 if gamma == 0 else 180.0 / 1e9)
        lr = predict(TIME_TRANSFER, np.array([[np.log(3e-3), c, gamma]]), {"B": b, "T": t})[0]
        done = fit(TIME_TRANSFER, {"B": b, "T": t}, lr * np.exp(0.05 * rng.standard_normal(36)), delta=np.inf)
        low, high = np.quantile(bootstrap(done, draws=100, seed=seed)[0][:, 2], (0.05, 0.95))
        hits += abs(done.theta[2] - gamma) <= 0.15 and not low <= 1 - gamma <= high
    assert hits == 5
    assert TIME_TRANSFER.critical_batch(done.theta[None], 1e9)[0] == pytest.approx(180, rel=0.2)


def test_the_closed_form_peaks_at_the_critical_batch() -> None:
    theta = np.array([[np.log(2e-3), np.log(100.0), 0.0]])
    lr = predict(TIME_TRANSFER, theta, {"B": np.array([25.0, 100.0, 400.0]), "T": np.ones(3)})[0]
    np.testing.assert_allclose(lr, [2e-3 / 1.25, 2e-3, 2e-3 / 1.25])


@pytest.mark.slow
@pytest.mark.parametrize("gamma", [0.0, 1.0])
def test_the_two_regimes_over_twenty_sweeps(gamma: float) -> None:
    """P185: the best of eight rates at 6 x 6 batches and horizons, 5 % noise: 18 of 20 seeds."""
    b, t = (grid.ravel() for grid in np.meshgrid(np.geomspace(16, 2048, 6), np.geomspace(1e8, 1e10, 6)))
    c, hits = np.log(180.0 if gamma == 0 else 180.0 / 1e9), 0
    best = predict(TIME_TRANSFER, np.array([[np.log(3e-3), c, gamma]]), {"B": b, "T": t})[0]
    for seed in range(20):
        rng = np.random.default_rng(1000 + seed)
        # a parabola in the log of the rate around the noisy best one, seen at eight rates, a factor 1.6 apart
        off = np.log(best) + 0.05 * rng.standard_normal(36)
        rates = np.round(off / np.log(1.6))[:, None] * np.log(1.6) + np.log(1.6) * (np.arange(8) - 3.5)
        loss = 2.0 + 0.1 * (rates - off[:, None]) ** 2
        found = np.array([np.polyfit(r, y, 2) for r, y in zip(rates, loss, strict=True)])
        lr = np.exp(-found[:, 1] / (2 * found[:, 0]))
        done = fit(TIME_TRANSFER, {"B": b, "T": t}, lr, delta=np.inf)
        low, high = np.quantile(bootstrap(done, draws=100, seed=seed)[0][:, 2], (0.05, 0.95))
        hits += abs(done.theta[2] - gamma) <= 0.15 and not low <= 1 - gamma <= high
    assert hits >= 18
