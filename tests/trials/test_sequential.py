from __future__ import annotations

import numpy as np
import pytest
from scipy import integrate, stats

from vario.trials.sequential import SPREAD, critical_t, e_value, failures_e_value


@pytest.mark.parametrize(("t", "n"), [(0.0, 2), (1.3, 2), (-2.5, 5), (3.0, 10), (4.2, 40)])
def test_e_value_is_the_mixture_of_noncentral_t_densities(t: float, n: int) -> None:
    def weighed(effect: float) -> float:
        return stats.nct.pdf(t, n - 1, np.sqrt(n) * effect) * stats.norm.pdf(effect, scale=np.sqrt(SPREAD))

    mixture, _ = integrate.quad(weighed, -8, 8, limit=400, points=[0.0, t / np.sqrt(n)])
    assert e_value(t, n) == pytest.approx(mixture / stats.t.pdf(t, n - 1), rel=1e-5)


def test_critical_t_is_where_the_e_value_reaches_its_bound() -> None:
    for n in (5, 6, 10, 50, 1_000):
        for alpha in (0.05, 0.01):
            t = critical_t(n, alpha)
            if np.isfinite(t):
                assert e_value(t, n) == pytest.approx(1 / alpha, rel=1e-9)
    # Ever the same difference: the largest evidence there can be.
    assert e_value(np.inf, 4) == pytest.approx(5**1.5)
    assert np.isfinite(critical_t(4, 0.13)) and np.isinf(critical_t(4, 0.12))
    assert np.isinf(critical_t(5, 0.05)) and np.isfinite(critical_t(6, 0.05))  # 1/16 and 1/32: signs alone
    assert np.isinf(critical_t(7, 0.01)) and np.isfinite(critical_t(8, 0.01))
    assert np.isinf(critical_t([0, 1], 0.05)).all()


def test_the_price_of_peeking_is_small_and_known() -> None:
    for n, low, high in ((10, 3.8, 3.95), (20, 3.3, 3.5), (200, 3.3, 3.5)):
        assert low < critical_t(n, 0.05) < high
        assert critical_t(n, 0.05) > stats.t.ppf(0.975, n - 1)


@pytest.mark.parametrize(
    "kind", ["normal", "heavy tails", "two values", "mostly ties", "a bad seed now and then"]
)
def test_the_chance_ever_to_reach_it_is_at_most_alpha(kind: str) -> None:
    """2,000 trials of nothing, looked at after each of 100 pairs, symmetric as A/A differences are."""
    draw, shape = np.random.default_rng(1), (2_000, 100)
    d = {
        "normal": lambda: draw.standard_normal(shape),
        "heavy tails": lambda: draw.standard_t(2, shape),
        "two values": lambda: draw.choice([-1.0, 1.0], shape),
        "mostly ties": lambda: draw.choice([-1.0, 0.0, 0.0, 0.0, 1.0], shape),
        "a bad seed now and then": lambda: (
            draw.standard_normal(shape) * np.where(draw.random(shape) < 0.05, 50, 1)
        ),
    }[kind]()
    n = np.arange(1, 101)
    mean = d.cumsum(1) / n
    square = (d**2).cumsum(1) - n * mean**2
    with np.errstate(invalid="ignore", divide="ignore"):
        sd = np.sqrt(np.maximum(square, 0) / (n - 1))
        t = np.abs(mean) * np.sqrt(n) / np.where(sd < 1e-9, 0, sd)
    reached = (t >= critical_t(n, 0.05)) & np.isfinite(critical_t(n, 0.05))
    ever = reached.any(1).mean()
    fixed = (t[:, 4:] >= stats.t.ppf(0.975, n[4:] - 1)).any(1).mean()
    # 0.05 + 3 standard errors of a share of 0.05 among 2,000
    assert ever <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 2_000)
    assert fixed > 0.12, "the plain t-test must fail here, or this test tests nothing"


def test_failures() -> None:
    assert failures_e_value(0, 0) == 1
    assert failures_e_value(3, 0) == pytest.approx(8 / 4)
    assert failures_e_value(2, 1) == pytest.approx(8 / (4 * 3))
    assert failures_e_value(12, 0) == failures_e_value(0, 12) > 200
    # A martingale: the two ways a toss can fall average to what was there before.
    for a in range(6):
        for b in range(6):
            after = (failures_e_value(a + 1, b) + failures_e_value(a, b + 1)) / 2
            assert after == pytest.approx(failures_e_value(a, b))
