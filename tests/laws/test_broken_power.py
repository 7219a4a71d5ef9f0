"""Test ``vario.laws.broken_power``."""

from __future__ import annotations

import numpy as np

from vario.laws.broken_power import BROKEN_POWER
from vario.laws.fit import fit, predict


def test_the_ends_are_power_laws_and_the_constants_come_back() -> None:
    theta = np.array([[-60.0, 1.0, 0.1, 0.5, np.log(1e4), np.log(0.3)]])
    at = {"x": np.array([1e-3, 1e-2, 1e10, 1e11])}
    y = np.log(predict(BROKEN_POWER, theta, at)[0])
    tens = np.log(10)
    assert abs((y[1] - y[0]) / tens + 0.1) < 1e-3 and abs((y[3] - y[2]) / tens + 0.6) < 1e-3
    x = np.geomspace(10, 1e8, 60)
    truth = np.array([[np.log(0.5), 1.0, 0.1, 0.5, np.log(1e4), np.log(0.3)]])
    done = fit(BROKEN_POWER, {"x": x}, predict(BROKEN_POWER, truth, {"x": x})[0], delta=np.inf)
    assert done.objective < 1e-8 and abs(done.theta[4] - np.log(1e4)) < 0.1


def test_slopes_are_those_of_the_value() -> None:
    rng = np.random.default_rng(0)
    x, theta = rng.normal(size=(1, 7)), rng.normal(size=(4, 6))
    theta[3, 5] = 5.0  # wider than any width that is told apart: the value does not move with it
    value, slopes = BROKEN_POWER.evaluate(theta, x)
    for i, step in enumerate(1e-6 * np.eye(6)):
        there = (BROKEN_POWER.evaluate(theta + step, x)[0] - BROKEN_POWER.evaluate(theta - step, x)[0]) / 2e-6
        np.testing.assert_allclose(slopes[:, i], there, atol=1e-7)
    assert value.shape == (4, 7) and not slopes[3, 5].any() and slopes[:3, 5].any()
