"""Test ``vario.laws.two_term``: the replication's numbers, planted constants, units."""

from __future__ import annotations

import numpy as np
import pytest

from tests.laws.tables import chinchilla, planted
from vario.laws._refusal import UNDER_TRAINED, well_trained
from vario.laws._uncertainty import bootstrap
from vario.laws.fit import fit
from vario.laws.two_term import TWO_TERM, TWO_TERM_TIED


def test_the_replication_to_its_tenth_digit() -> None:
    x, loss = chinchilla()
    done = fit(TWO_TERM, x, loss, delta=1e-3)
    own = {name: value[0] for name, value in TWO_TERM.derived(done.theta[None]).items()}
    assert done.objective == pytest.approx(0.0010182740178, abs=1e-12)
    assert done.agreeing > 100
    assert own["A"] == pytest.approx(477.83, abs=0.1) and own["B"] == pytest.approx(2143.4, abs=1.0)
    assert own["E"] == pytest.approx(1.8172, abs=1e-4) and own["n_exponent"] == pytest.approx(
        0.5139, abs=1e-4
    )


def test_the_printed_point_is_the_least_absolute_one() -> None:
    x, loss = chinchilla()
    own = TWO_TERM.derived(fit(TWO_TERM, x, loss, delta=1e-6).theta[None])
    assert own["A"][0] == pytest.approx(481.9, abs=2) and own["B"][0] == pytest.approx(2085, abs=10)


def test_its_standard_errors() -> None:
    x, loss = chinchilla()
    draws, kind = bootstrap(fit(TWO_TERM, x, loss), draws=1000, seed=1)
    assert kind == "pairs"
    assert draws[:, 2].std() == pytest.approx(0.0149, abs=0.0012)
    assert draws[:, 4].std() == pytest.approx(0.0203, abs=0.0018)


@pytest.mark.parametrize("scale", [(1.0, 1.0, 1.0), (1e-6, 1e-9, 1 / np.log(2)), (1e3, 7.0, 0.1)])
def test_units_change_the_scales_and_nothing_else(scale: tuple[float, float, float]) -> None:
    x, loss = planted()
    plain = fit(TWO_TERM, x, loss)
    other = fit(TWO_TERM, {"N": x["N"] * scale[0], "D": x["D"] * scale[1]}, loss * scale[2])
    assert other.objective == pytest.approx(plain.objective, rel=1e-9)
    np.testing.assert_allclose(other.theta[[2, 4]], plain.theta[[2, 4]], rtol=1e-6)
    assert np.exp(other.theta[0]) == pytest.approx(scale[2] * np.exp(plain.theta[0]), rel=1e-6)


@pytest.mark.parametrize("scale", [(1, 1), (1e-6, 1), (1, 1e-9), (1e-6, 1e-9), (1e-9, 1e-9), (1e-9, 1e-6)])
def test_well_trained_rows_are_the_same_in_any_thousands(scale: tuple[float, float]) -> None:
    rng = np.random.default_rng(0)
    n, ratio = 10 ** rng.uniform(7, 10, 60), 10 ** rng.uniform(0, 2.5, 60)
    kept = well_trained(TWO_TERM, np.log([n * scale[0], n * ratio * scale[1]]))
    np.testing.assert_array_equal(kept, ratio >= UNDER_TRAINED)
    assert 0 < kept.sum() < 60


def test_planted_constants_and_the_best_size() -> None:
    inside = 0
    for seed in range(8):
        x, loss = planted(seed=seed)
        done = fit(TWO_TERM, x, loss)
        assert done.theta[2] == pytest.approx(0.3478, abs=0.03) and done.theta[4] == pytest.approx(
            0.3658, abs=0.03
        )
        low, high = np.quantile(bootstrap(done, draws=100, seed=seed)[0][:, 2], (0.1, 0.9))
        inside += low <= 0.3478 <= high
    assert 4 <= inside <= 8
    theta = np.array([[np.log(1.8), np.log(480.0), 0.35, np.log(2000.0), 0.37]])
    best = float(TWO_TERM.best_size(theta, 1e22)[0])
    grid = best * np.exp(np.linspace(-1, 1, 2001))
    loss = 1.8 + 480 * grid**-0.35 + 2000 * (1e22 / 6 / grid) ** -0.37
    assert grid[loss.argmin()] == pytest.approx(best, rel=2e-3)
    ratio = np.log(TWO_TERM.best_size(theta, 1e24) / TWO_TERM.best_size(theta, 1e22)) / np.log(100.0)
    assert ratio[0] == pytest.approx(0.37 / 0.72, abs=1e-9)


def test_slopes_are_those_of_the_value() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 7))
    for law in (TWO_TERM, TWO_TERM_TIED):
        theta = rng.normal(size=(3, len(law.names)))
        value, slopes = law.evaluate(theta, x)
        for i in range(len(law.names)):
            step = np.eye(len(law.names))[i] * 1e-6
            there = (law.evaluate(theta + step, x)[0] - law.evaluate(theta - step, x)[0]) / 2e-6
            np.testing.assert_allclose(slopes[:, i], there, atol=1e-7)
        assert value.shape == (3, 7)


@pytest.mark.slow
def test_stopped_early_the_intervals_are_far_too_narrow() -> None:
    """P332: a mean in place of a sum, scipy's tolerance and one start give the first paper's intervals."""
    from scipy.optimize import minimize

    for seed in range(3):
        x, loss = planted(seed=100 + seed)
        n, d, y = np.log(x["N"]), np.log(x["D"]), np.log(loss)
        rng, stopped = np.random.default_rng(seed), []
        for _ in range(30):
            rows = rng.integers(0, 240, 240)

            def mean(t: np.ndarray, rows: np.ndarray = rows, n=n, d=d, y=y) -> float:  # type: ignore[no-untyped-def]
                value = np.logaddexp(np.logaddexp(t[0], t[1] - t[2] * n[rows]), t[3] - t[4] * d[rows])
                size = np.abs(value - y[rows])
                return float((np.minimum(size, 1e-3) * (size - 0.5 * np.minimum(size, 1e-3))).mean())

            stopped.append(minimize(mean, [0.5, 6.0, 0.35, 7.0, 0.35], method="L-BFGS-B").x[2])
        low, high = np.quantile(stopped, (0.1, 0.9))
        ours = np.quantile(bootstrap(fit(TWO_TERM, x, loss), draws=100, seed=seed)[0][:, 2], (0.1, 0.9))
        assert np.ptp(ours) >= 5 * (high - low) and not low <= 0.3478 <= high


@pytest.mark.slow
@pytest.mark.parametrize("first", [200, 300])
def test_twenty_seeds_of_a_planted_law(first: int) -> None:
    """P332: 0.5 % noise; exponents within .02, and the 80 % interval of 100 refits covers 13 to 19 of 20."""
    covered = np.zeros(2)
    for seed in range(first, first + 20):
        x, loss = planted(seed=seed)
        done = fit(TWO_TERM, x, loss)
        assert np.abs(done.theta[[2, 4]] - [0.3478, 0.3658]).max() <= 0.02
        low, high = np.quantile(bootstrap(done, draws=100, seed=seed)[0][:, [2, 4]], (0.1, 0.9), axis=0)
        covered += (low <= [0.3478, 0.3658]) & ([0.3478, 0.3658] <= high)
    assert ((covered >= 13) & (covered <= 19)).all()
