"""Test ``vario.laws._form``: what a law misses, and what its rivals say, is part of the interval."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from tests.laws.tables import planted
from vario.laws import _compare
from vario.laws._compare import Candidate, choose, spent
from vario.laws._forecast import Forecaster
from vario.laws._form import LEAST_ROWS, NO_FLOOR, apart, bend_of, floor_share, shift, trend_of, trended
from vario.laws._uncertainty import interval, uncertainty
from vario.laws.fit import Fit, fit, predict
from vario.laws.power import POWER, POWER_FLOOR
from vario.laws.two_term import TWO_TERM, TWO_TERM_TIED

FAR = {"N": np.array([3e11]), "D": np.array([6e12])}


def exact(count: int = 60) -> Fit:
    x, loss = planted(count, noise=0.0)
    return fit(TWO_TERM, x, loss, delta=np.inf)


def test_a_trend_of_the_residuals_is_carried_to_a_new_run() -> None:
    done = exact()
    away = done.x - done.x.mean(axis=1, keepdims=True)
    missed = replace(done, y=done.y - (0.002 * away[0] ** 2 - 0.003 * away[0] * away[1] + 0.01))
    u, v = np.log([FAR["N"][0], FAR["D"][0]]) - done.x.mean(axis=1)
    found = trended(TWO_TERM, trend_of(missed), FAR)
    assert found == pytest.approx(abs(0.002 * u**2 - 0.003 * u * v + 0.01), rel=1e-3)
    assert trended(TWO_TERM, trend_of(done), FAR) == pytest.approx(0.0, abs=1e-6)


def test_a_run_that_blew_up_is_no_trend() -> None:
    x, loss = planted(60, noise=0.003, seed=1)
    plain, worst = fit(TWO_TERM, x, loss), int(np.argmax(x["N"]))
    loss[worst] *= 3.0
    blown = fit(TWO_TERM, x, loss)
    before, after = (float(trended(TWO_TERM, trend_of(one), FAR)[0]) for one in (plain, blown))
    assert abs(after - before) < 0.02  # by least squares this one run moves it by .6


def test_no_trend_where_it_was_not_shown_to_help() -> None:
    assert trend_of(exact(LEAST_ROWS - 1)) == () != trend_of(exact(LEAST_ROWS))
    assert (
        trend_of(exact(60), (np.arange(60) % 5).astype(float))
        == ()
        != trend_of(exact(60), (np.arange(60) % LEAST_ROWS).astype(float))
    )
    x = np.geomspace(1.0, 100.0, 20)
    assert trend_of(fit(POWER, {"x": x}, x**-0.3, delta=np.inf)) == ()


def test_a_floor_at_zero_leaves_the_bend_that_no_floor_leaves() -> None:
    x = np.geomspace(1.0, 100.0, 10)
    steeper, flatter = x**-0.1 * np.exp(-0.03 * np.log(x) ** 2), 1.0 + x**-0.3
    plain, none, shows = (fit(law, {"x": x}, y, delta="auto") for law, y in
                          ((POWER, steeper), (POWER_FLOOR, steeper), (POWER_FLOOR, flatter)))  # fmt: skip
    assert floor_share(none) < NO_FLOOR < floor_share(shows) and np.isnan(floor_share(plain))
    assert bend_of(none) == pytest.approx(bend_of(plain), rel=0.2) and bend_of(shows) == ()
    far = {"x": np.array([400.0])}
    low, high = interval(POWER_FLOOR, none.theta, uncertainty(none, draws=100), far)[1:]
    assert low[0] < 400.0**-0.1 * np.exp(-0.03 * np.log(400.0) ** 2) < high[0]


def test_earlier_forecasts_claim_a_bend_only_where_the_last_one_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """Smaller runs without a floor claim much and miss little: no reason to trust a floored law more."""
    x = np.geomspace(1.0, 1e4, 30)
    y = 1.0 + np.exp(-0.02 * np.log(x) ** 2 + 0.002 * np.random.default_rng(0).standard_normal(30))
    y[-8:] = y[-9] - 0.003 * np.arange(1, 9)  # the floor shows in the last runs alone
    floored, straight = (fit(law, {"x": x}, y, delta="auto") for law in (POWER_FLOOR, POWER))
    if floor_share(floored) < NO_FLOOR:
        pytest.fail("the last runs should show a floor")
    before = [uncertainty(one, draws=50).factor for one in (floored, straight)]
    monkeypatch.setattr("vario.laws._uncertainty.bend_of", lambda done: ())
    after = [uncertainty(one, draws=50).factor for one in (floored, straight)]
    assert before[0] == after[0] and before[1] < after[1]


def test_rivals_move_and_spread_the_forecast_by_hand() -> None:
    done = exact()
    known = uncertainty(done, draws=50, backtest_draws=20)
    other = done.theta + np.array([0.01, 0.0, 0.0, 0.0, 0.0])
    away = np.log(predict(TWO_TERM, other[None], FAR) / predict(TWO_TERM, done.theta[None], FAR))[0]
    rivals = [("two-term", other, 1.0), ("two-term", done.theta, 2.0)]
    assert shift(TWO_TERM, done.theta, rivals, FAR) == pytest.approx(away / 4)
    flat = 2.0**0.5  # error^-2, where the forecast takes error^-4
    apart_by_hand = np.abs(away) * np.sqrt((0.25**2 + 0.75**2 + flat * 0.25**2) / (2 + flat))
    assert apart(TWO_TERM, done.theta, rivals, FAR) == pytest.approx(apart_by_hand)
    value, low, high = interval(TWO_TERM, done.theta, replace(known, rivals=rivals), FAR)
    assert value == pytest.approx(done.predict(FAR) * np.exp(away / 4))
    assert np.log(high / low) / 2 >= 1.96 * apart_by_hand
    assert apart(TWO_TERM, done.theta, [], FAR) == shift(TWO_TERM, done.theta, [], FAR) == 0.0


def test_errors_count_for_what_they_spend() -> None:
    even, steep = np.ones(20), np.array([10.0] + [10.0 / 9.0] * 9)  # worth 20 and 3.6 rows
    assert spent(even, 4) == pytest.approx(1.5**2)
    worth = steep.sum() ** 2 / (steep**2).sum()
    assert 3.5 < worth < 3.7 and spent(steep, 4) == pytest.approx(((worth + 4) / 0.5) ** 2)


def test_all_that_were_not_refused_join_by_their_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    x, loss = planted(30, noise=0.004, seed=3)
    errors = {"two-term": (0.011, 0.021, 0.030, 0.040), "two-term-tied": (0.024, 0.011, np.nan, 0.010)}
    ways: list[tuple[float | str, float]] = list(product((1e-3, "auto"), (0.0, 0.4)))
    made = [
        Candidate(
            name, "all", delta, error, 3, "too few" if error == 0.010 else None, lean,
            spent=4.0 if (name, error) == ("two-term-tied", 0.011) else 2.0,
        )
        for name, row in errors.items()
        for error, (delta, lean) in zip(row, ways, strict=True)
    ]  # fmt: skip
    monkeypatch.setattr(_compare, "compare", lambda *_, **__: made)
    choice = choose(x, loss)
    assert choice.best is made[0] and choice.done is not None and choice.tried == 8
    names, _, weights = zip(*choice.rivals, strict=True)
    assert names == ("two-term", "two-term-tied", "two-term-tied", "two-term", "two-term")  # .010 was refused
    judged = np.array([0.042, 0.044, 0.048, 0.060, 0.080]) / 0.022
    assert weights == pytest.approx(judged**-4.0)
    alike = fit(TWO_TERM_TIED, x, loss, weights=np.ones(30)).theta
    assert choice.rivals[1][1] != pytest.approx(alike)  # it leans


def test_a_kept_fit_forecasts_as_the_fit_did() -> None:
    x, loss = planted(60, noise=0.004, seed=3)
    done = fit(TWO_TERM, x, loss)
    rival = ("two-term-tied", fit(TWO_TERM_TIED, x, loss).theta, 0.5)
    known = uncertainty(done, draws=50, backtest_draws=20, rivals=[rival])
    plan = Forecaster.of(done, known)
    kept = Forecaster.from_dict(json.loads(json.dumps(plan.as_dict())))
    assert kept.at({"N": 1e12, "D": 1e13}) == pytest.approx(plan.at({"N": 1e12, "D": 1e13}), rel=1e-6)
    assert len(kept.known.rivals) == 1 and len(kept.known.trend) == 8
