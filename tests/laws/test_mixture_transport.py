"""Test ``vario.laws.mixture_transport``."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from vario.laws.mixture_transport import bend, fit_mixture, transport_cost


def test_the_cost_is_the_assignments() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(30, 2)), rng.normal(1.0, 1.0, size=(30, 2))
    cost = ((a[:, None] - b[None]) ** 2).sum(axis=2)
    exact = cost[linear_sum_assignment(cost)].mean()
    assert transport_cost(a, b) == pytest.approx(exact, rel=0.02)
    assert transport_cost(a, a) < 0.03 * cost.mean()


def test_accuracy_is_linear_in_log_size_between_and_beyond() -> None:
    share = np.linspace(0, 1, 9)
    mixtures, ot = np.stack([share, 1 - share], axis=1), (share - 0.6) ** 2
    at = lambda n: 0.5 + 0.05 * np.log(n) - 0.3 * ot  # noqa: E731
    law = fit_mixture(mixtures, ot, (at(100), at(400)), (100.0, 400.0))
    np.testing.assert_allclose(law.predict(mixtures, ot, 1600.0), at(1600), atol=2e-3)
    assert share[law.predict(mixtures, ot, 1600.0).argmax()] == pytest.approx(0.6, abs=0.07)


@pytest.mark.parametrize("power", [0.25, 0.5, 1.0])
def test_a_curve_that_nears_its_ceiling_is_foretold_too_high(power: float) -> None:
    """P041 asks for 2 points at four times the size: out of reach where a doubling gains more than this."""
    share = np.linspace(0, 1, 9)
    mixtures, ot = np.stack([share, 1 - share], axis=1), (share - 0.6) ** 2
    at = lambda n: 90.0 - 20.0 * ot - 300.0 * n**-power  # noqa: E731
    law = fit_mixture(mixtures, ot, (at(100.0), at(200.0)), (100.0, 200.0))
    off = law.predict(mixtures, ot, 800.0) - at(800.0)
    gain = 300.0 * (100.0**-power - 200.0**-power)
    np.testing.assert_allclose(off, bend(gain, power), rtol=2e-2, atol=2e-2)
    assert bend(gain, power) == pytest.approx(gain * (2 - 2**-power - 4**-power))
    assert bend(2.0 / (2 - 2**-power - 4**-power), power) == pytest.approx(2.0)
