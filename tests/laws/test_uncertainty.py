"""Test ``vario.laws._uncertainty``: intervals of parameters from few rows cover what they should."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.laws.tables import planted
from vario.laws._form import bend_of
from vario.laws._uncertainty import DRIFT, SHARE, bootstrap, interval, stretch_of, student, uncertainty
from vario.laws.fit import fit
from vario.laws.over_training import OVER_TRAINING
from vario.laws.power import POWER, POWER_FLOOR
from vario.laws.step_law import STEP_LAW
from vario.laws.two_term import TWO_TERM


@pytest.mark.parametrize(("spare", "t"), [(6, 2.447), (10, 2.228), (1, 12.706), (1e9, 1.96)])
def test_students_t_by_the_book(spare: float, t: float) -> None:
    assert student(spare) == pytest.approx(t, abs=1e-3)


def test_forty_rows_and_more_are_not_stretched() -> None:
    x = np.geomspace(1.0, 100.0, 40)
    noisy = x**-0.3 * np.exp(0.01 * np.random.default_rng(0).normal(size=40))
    assert stretch_of(fit(POWER, {"x": x}, noisy)) == 1.0
    assert stretch_of(fit(POWER, {"x": x[:9]}, noisy[:9])) > 1.0


def test_two_exponents_from_nine_optima_are_covered() -> None:
    """P286: a planted law of the rate, 4 % noise at nine (N, T), 90 % intervals, 100 seeds."""
    n, t = (grid.ravel() for grid in np.meshgrid([1e8, 3e8, 1e9], [1e9, 4e9, 1.6e10]))
    hits = np.zeros(2)
    for seed in range(100):
        lr = 1.8 * n**-0.7 * t**0.3 * np.exp(0.04 * np.random.default_rng(seed).standard_normal(9))
        done = fit(STEP_LAW, {"N": n, "D": t}, lr, delta=np.inf)
        low, high = np.quantile(bootstrap(done, draws=200, seed=seed)[0][:, 1:], (0.05, 0.95), axis=0)
        hits += (low <= [-0.7, 0.3]) & ([-0.7, 0.3] <= high)
        assert np.abs(done.theta[1:] - [-0.7, 0.3]).max() < 0.05
    assert (hits >= 85).all() and (hits <= 95).all()


def test_five_rows_of_a_power_law_do_not_rule_out_a_bend() -> None:
    """Losses with a floor, told to a law without one: a run ten times beyond is covered all the same."""
    x, covered, believed = np.geomspace(1.0, 16.0, 5), 0, 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        floor, power = rng.uniform(0.3, 0.8), rng.uniform(0.2, 0.6)
        loss = lambda size, f=floor, p=power: f + (1 - f) * size**-p  # noqa: E731
        done = fit(POWER, {"x": x}, loss(x) * np.exp(0.001 * rng.standard_normal(5)), delta=np.inf)
        known = uncertainty(done, draws=100, seed=seed)
        for bend in (known.bend, ()):
            _, low, high = interval(POWER, done.theta, replace(known, bend=bend), {"x": 160.0})
            inside = bool(low[0] <= loss(160.0) <= high[0])
            covered, believed = covered + (inside and bend != ()), believed + (inside and bend == ())
    assert covered >= 38 and believed < 30
    assert bend_of(fit(POWER_FLOOR, {"x": x}, 0.5 + x**-0.3, delta=np.inf)) == ()


@pytest.mark.slow
def test_over_training_three_hundred_times_larger() -> None:
    """P085: 30 runs over four decades of compute, 0.5 % noise; a model at 300 x and 640 tokens each.

    Loss within 1 % at the median (not always: 1.5 %), eta within 10 %. a and b trade against each other and
    are off by half at worst, so the row's 5 % for every parameter does not hold from 30 runs.
    """
    truth = np.array([[np.log(1.8), np.log(200.0), np.log(350.0), 0.14]])
    size = np.sqrt(300 * 1e21 / 6 / 640)
    at, errors, hits = {"N": np.array([size]), "D": np.array([640 * size])}, [], 0
    wanted = float(np.exp(OVER_TRAINING.evaluate(truth, np.log(np.stack([at["N"], at["D"]])))[0][0, 0]))
    for seed in range(40):
        rng = np.random.default_rng(seed)
        compute, ratio = 10 ** rng.uniform(17, 21, 30), np.exp(rng.uniform(np.log(5), np.log(640), 30))
        n = np.sqrt(compute / 6 / ratio)
        x = {"N": n, "D": n * ratio}
        clean = np.exp(OVER_TRAINING.evaluate(truth, np.log(np.stack([x["N"], x["D"]])))[0][0])
        done = fit(OVER_TRAINING, x, clean * np.exp(0.005 * rng.standard_normal(30)), delta="auto")
        draws = uncertainty(done, draws=200, seed=seed, backtest_draws=20).draws
        told = np.exp(OVER_TRAINING.evaluate(draws, np.log(np.stack([at["N"], at["D"]])))[0][:, 0])
        low, high = np.quantile(told, (0.05, 0.95))
        hits += low <= wanted <= high
        errors.append(abs(float(done.predict(at)[0]) / wanted - 1))
        assert done.theta[3] == pytest.approx(0.14, rel=0.1)
    assert hits >= 34 and np.median(errors) < 0.01 and max(errors) < 0.02


def test_an_interval_is_as_wide_as_earlier_misses_at_that_distance() -> None:
    x, loss = planted(60, noise=0.002, seed=1)
    done = fit(TWO_TERM, x, loss, delta="auto")
    known = uncertainty(done, draws=50, backtest_draws=20)
    assert known.measured[-1][1] == pytest.approx(np.log(x["N"] * x["D"]).max())
    assert [reach for reach, _ in known.missed] == sorted(reach for reach, _ in known.missed)
    assert len(known.missed) == 4
    known = replace(known, missed=[(1.0, 0.3), (2.0, 0.1)])
    n, d = x["N"][np.argmax(x["N"] * x["D"])], x["D"][np.argmax(x["N"] * x["D"])]
    away = np.exp([-1.0, 0.5, 1.0, 1.5, 9.0])
    _, low, high = interval(TWO_TERM, done.theta, known, {"N": n * away, "D": np.full(5, d)})
    half, drift = np.log(high / low) / 2, DRIFT * np.sqrt(np.maximum(np.log10(away), 0.0))
    missed = SHARE * student(2) * np.array([0.15, 0.3, 0.2, 0.1])
    assert half[1:] == pytest.approx(np.hypot(missed, drift[1:]), rel=0.01)
    assert half[0] < 0.02  # within the runs


def test_new_runs_within_the_measured_of_an_exact_law_are_covered() -> None:
    """Independent noise of 0.5 % on 60 runs: 95 % of others like them lie inside."""
    covered = []
    for seed in range(8):
        x, loss = planted(160, noise=0.005, seed=seed)
        done = fit(TWO_TERM, {name: column[:60] for name, column in x.items()}, loss[:60], delta="auto")
        inside = np.all(
            [
                (column[60:] >= column[:60].min()) & (column[60:] <= column[:60].max())
                for column in x.values()
            ],
            axis=0,
        )
        new = {name: column[60:][inside] for name, column in x.items()}
        _, low, high = interval(TWO_TERM, done.theta, uncertainty(done, draws=80, backtest_draws=20), new)
        covered.append(float(((low <= loss[60:][inside]) & (loss[60:][inside] <= high)).mean()))
    assert np.mean(covered) >= 0.92  # a share of the half-width alone: 0.88


def test_a_law_leaves_more_open_the_further_it_is_asked_whatever_the_runs_say() -> None:
    """Runs that follow a law exactly: within them nothing is open, at a decade 2 %, at four twice that."""
    x, loss = planted(60, noise=0.0, seed=1)
    done = fit(TWO_TERM, x, loss, delta="auto")
    known = uncertainty(done, draws=50, backtest_draws=20)
    largest = np.argmax(x["N"] * x["D"])
    at = {name: x[name].max() * np.array([1.0, 10.0, 1e4]) for name in ("N", "D")}
    at = {name: np.append(column, x[name][largest]) for name, column in at.items()}
    _, low, high = interval(TWO_TERM, done.theta, known, at)
    far = np.log10(at["N"] * at["D"]) - np.log10((x["N"] * x["D"]).max())
    assert np.log(high / low) / 2 == pytest.approx(DRIFT * np.sqrt(far), rel=0.05, abs=1e-3)
    power = fit(POWER_FLOOR, {"x": x["N"]}, 0.5 + x["N"] ** -0.3, delta=np.inf)
    _, low, high = interval(POWER_FLOOR, power.theta, uncertainty(power, draws=50), {"x": 1e3 * x["N"].max()})
    assert np.log(high / low)[0] < 1e-3  # what was measured on losses by size is said of those alone


def test_look_backs_start_below_a_crowded_largest_budget() -> None:
    """Two thirds of the rows at one budget, and a bend just before: shares of the rows do not see it."""
    rng = np.random.default_rng(0)
    budget = np.repeat([1e18, 2e18, 4e18, 4e19], [8, 8, 8, 48])
    n = 10 ** rng.uniform(7.7, 8.9, len(budget))
    x = {"N": n, "D": budget / 6 / n}
    bend = np.where(budget > 1e19, 0.02, 0.0)
    loss = (1.8 + 420 * x["N"] ** -0.35 + 1200 * x["D"] ** -0.35) * np.exp(bend)
    done = fit(TWO_TERM, x, loss * np.exp(0.001 * rng.standard_normal(len(n))), delta="auto")
    known = uncertainty(done, draws=50, backtest_draws=20)
    assert max(error for _, error in known.missed) == pytest.approx(0.02, abs=0.01)
