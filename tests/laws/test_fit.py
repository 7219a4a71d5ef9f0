"""Test ``vario.laws.fit``, its solver, its refusals and its intervals."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from tests.laws.tables import chinchilla, planted
from vario.laws._design import next_runs, spread_now
from vario.laws._forecast import Forecaster
from vario.laws._newton import huber, minimise
from vario.laws._refusal import cautions, refusal
from vario.laws._uncertainty import factor_of, interval, uncertainty
from vario.laws.fit import as_logs, fit, neighbours, predict, profile, project
from vario.laws.power import POWER, POWER_FLOOR
from vario.laws.two_term import TWO_TERM


def test_huber_by_hand() -> None:
    np.testing.assert_allclose(huber(np.array([0.5, -2.0]), 1.0), [0.125, 1.5])
    assert huber(np.array([3.0]), np.inf)[0] == 4.5


def test_the_solver_finds_the_weighted_median_and_the_mean() -> None:
    def evaluate(theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.repeat(theta, 3, axis=1), np.ones((len(theta), 1, 3))

    goal, weights = np.array([0.0, 1.0, 10.0]), np.array([[1.0, 1.0, 1.0], [5.0, 1.0, 1.0]])
    ends, _ = minimise(evaluate, np.full((2, 1), 4.0), goal, weights=weights, delta=1e-6)
    np.testing.assert_allclose(ends[:, 0], [1.0, 0.0], atol=1e-5)
    ends, _ = minimise(evaluate, np.full((2, 1), 4.0), goal, weights=weights)
    np.testing.assert_allclose(ends[:, 0], [11 / 3, 11 / 7])


def test_bootstrap_refits_reach_their_own_optimum() -> None:
    x, loss = planted()
    done = fit(TWO_TERM, x, loss)
    weights = np.random.default_rng(0).multinomial(240, np.full(240, 1 / 240), size=60).astype(float)
    _, quick = done.refit(weights=weights)
    start = np.repeat(done.centred[None], 60, axis=0) + 0.03
    centred = done.x - done.centre[:, None]
    _, slow = minimise(
        lambda t: TWO_TERM.evaluate(t, centred), start, done.y - done.level, weights=weights, delta=1e-3,
        rounds=600, tolerance=1e-13,
    )  # fmt: skip
    assert (quick - slow).max() <= 1e-6 * slow.max()


def test_profile_and_neighbours() -> None:
    x, loss = planted(60)
    done = fit(TWO_TERM, x, loss)
    at = profile(done, "alpha", [done.theta[2] - 0.05, done.theta[2], done.theta[2] + 0.05])
    assert at[1] == pytest.approx(done.objective, rel=1e-6) and at[0] > at[1] < at[2]
    assert set(neighbours(done)) == {1e-4, 1e-2}


def test_projection_solves_the_linear_part_exactly() -> None:
    t = np.linspace(0, 3, 30)
    done = project(
        lambda g: np.stack([np.ones_like(t), np.exp(-g * t)], axis=1),
        2 - 3 * np.exp(-1.7 * t),
        np.geomspace(0.1, 10, 20),
    )
    assert done.shape == pytest.approx(1.7, abs=1e-6) and not done.at_bound
    np.testing.assert_allclose(done.coefficients, [2, -3], atol=1e-6)


def test_a_bad_cell_is_named() -> None:
    with pytest.raises(ValueError, match="D is nan in row 1"):
        as_logs(TWO_TERM, {"N": [1.0, 2.0], "D": [1.0, np.nan]}, [1.0, 2.0])
    with pytest.raises(ValueError, match="delta"):
        fit(POWER, {"x": [1.0, 2.0]}, [1.0, 2.0], delta=-1)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda n, d: (n[:7], d[:7]), "7 rows"),
        (lambda n, d: (1e8 * (n / n.max()) ** 1e-3, d), "spans a factor"),
        (lambda n, d: (np.where(n > np.median(n), 1e8, 1e9), d), "2 distinct levels"),
        (lambda n, d: (n, 20 * n * (1 + 0.01 * np.sin(np.arange(len(n))))), "correlated"),
        (lambda n, d: (n, d), None),
    ],
)
def test_designs_that_cannot_tell_are_refused(change: object, word: str | None) -> None:
    x, _ = planted(60)
    n, d = change(x["N"], x["D"])  # type: ignore[operator]
    said = refusal(TWO_TERM, np.log(np.stack([n, d])))
    assert (said is None) if word is None else (said is not None and word in said)


def test_a_factor_of_three_is_one_in_every_unit() -> None:
    n, d = (a.reshape(-1) for a in np.meshgrid(np.geomspace(7e7, 1e9, 5), np.geomspace(1e10, 3e10, 5)))
    for unit in (1.0, 1e-3, 1e-6, 1e-9, 1e-12):
        assert refusal(TWO_TERM, np.log(np.stack([n, d * unit]))) is None
    assert refusal(TWO_TERM, np.log(np.stack([n, d**0.99]))) is not None


def test_cautions_fire_and_stay_silent() -> None:
    x, loss = planted()
    assert [one.id for one in cautions(fit(TWO_TERM, x, loss))] == []
    worse = loss.copy()
    worse[:4] *= 1.5
    ids = {one.id: one.text for one in cautions(fit(TWO_TERM, x, worse))}
    assert "outliers" in ids and "without them" in ids["outliers"]
    low = {"N": x["N"], "D": np.where(np.arange(240) < 30, x["N"] * 0.5, x["D"])}
    assert "under-trained-rows" in {one.id for one in cautions(fit(TWO_TERM, low, loss))}
    assert "unit-slip" in {one.id for one in cautions(fit(TWO_TERM, {"N": x["N"] / 1e6, "D": x["D"]}, loss))}
    size = np.geomspace(1e6, 1e10, 30)
    assert "curving-without-floor" in {
        one.id for one in cautions(fit(POWER, {"x": size}, 2 + 300 * size**-0.4))
    }
    noisy = 300 * size**-0.2 * np.exp(1e-3 * np.random.default_rng(0).standard_normal(30))
    assert "floor-at-zero" in {one.id for one in cautions(fit(POWER_FLOOR, {"x": size}, noisy))}


def test_245_rows_give_the_outlier_warning() -> None:
    from tests.laws.tables import table

    data = table("chinchilla.csv")
    done = fit(TWO_TERM, {"N": data["params"], "D": data["tokens"]}, data["loss"])
    assert "outliers" in {one.id for one in cautions(done)}


def test_the_largest_tenth_is_foretold_and_covered() -> None:
    x, loss = chinchilla()
    size = x["N"] * x["D"]
    late = size >= np.quantile(size, 0.9)
    done = fit(TWO_TERM, {name: column[~late] for name, column in x.items()}, loss[~late])
    known = uncertainty(done, draws=300)
    value, low, high = interval(
        TWO_TERM, done.theta, known, {name: column[late] for name, column in x.items()}
    )
    assert np.abs(value / loss[late] - 1).mean() <= 0.011
    assert ((low <= loss[late]) & (loss[late] <= high)).mean() >= 0.85
    assert np.median((high - low) / value) <= 0.06


def test_past_errors_widen_the_interval() -> None:
    assert factor_of(np.empty(0), np.empty(0)) == 1.96
    assert factor_of(np.full(20, 0.04), np.full(20, 0.01)) == pytest.approx(4.0)


def test_refits_of_resampled_rows_end_within_a_millionth_of_their_optima() -> None:
    x, loss = planted(240, noise=0.005, seed=2)
    done = fit(TWO_TERM, x, loss)
    weights = np.random.default_rng(0).multinomial(240, np.full(240, 1 / 240), size=400).astype(float)
    quick = done.refit(weights=weights)[1]
    inputs, start = done.x - done.centre[:, None], np.repeat(done.centred[None], 400, axis=0) + 0.02
    slow = minimise(
        lambda theta: TWO_TERM.evaluate(theta, inputs), start, done.y - done.level, weights=weights,
        delta=done.delta, rounds=500, tolerance=1e-13,
    )[1]  # fmt: skip
    assert (quick - np.minimum(quick, slow)).max() < 1e-6


def test_a_kept_fit_says_the_same_and_a_design_narrows_it() -> None:
    x, loss = planted(40, noise=0.01)
    done = fit(TWO_TERM, x, loss)
    plan = Forecaster.of(done, uncertainty(done, draws=200, backtest_draws=50))
    target = {"N": 7e10, "D": 1.4e12}
    again = Forecaster.from_dict(plan.as_dict()).at(target)
    assert again == pytest.approx(plan.at(target), rel=1e-6)
    assert again["decades"] > 0.5 and plan.at({"N": 1e8, "D": 2e9})["decades"] == 0
    best = plan.best(5.76e23)
    assert best["N"]["low"] < best["N"]["value"] < best["N"]["high"] and 0 < best["regret"] < 0.05  # type: ignore[index, operator]
    runs = next_runs(plan, target, 1e21)
    assert runs and sum(one["cost"] for one in runs) <= 1e21
    assert all(one["inputs"][name] >= 0.999 * x[name].min() for one in runs for name in x)  # none below
    near, ratios = np.sqrt(10.0), x["D"] / x["N"]  # runs shaped like the measured ones, half a decade around
    assert all(
        ratios.min() / near <= one["inputs"]["D"] / one["inputs"]["N"] <= ratios.max() * near for one in runs
    )
    assert runs[-1]["spread_after"] < spread_now(plan, target)
    assert {one["unit"] for one in runs} == {"FLOPs"}
    assert all(one["cost"] == pytest.approx(6 * one["inputs"]["N"] * one["inputs"]["D"]) for one in runs)


def test_a_design_of_one_input_is_paid_in_that_input() -> None:
    x = np.geomspace(1e5, 1e7, 12)
    draw = np.random.default_rng(0)
    done = fit(POWER_FLOOR, {"x": x}, (1.5 + 40 * x**-0.3) * np.exp(0.003 * draw.normal(size=12)))
    plan = Forecaster.of(done, uncertainty(done, draws=100, backtest_draws=50))
    runs = next_runs(plan, {"x": 1e8}, 3e7)
    assert runs and sum(one["inputs"]["x"] for one in runs) <= 3e7
    assert all(one["unit"] == "of x" and one["cost"] == one["inputs"]["x"] for one in runs)
    with pytest.raises(ValueError, match="budget of 1 of x pays for no run"):
        next_runs(plan, {"x": 1e8}, 1.0)
    near = next_runs(plan, {"x": 1.5e7}, 1e9)  # rather the run itself than one that costs as much
    assert near and all(one["cost"] < 1.5e7 for one in near)
    with pytest.raises(ValueError, match="costs less than the one to be forecast"):
        next_runs(plan, {"x": 1e5}, 1e9)


def test_a_design_spends_its_budget_and_its_spread_is_exact() -> None:
    """Many runs of the smallest size narrow most for their cost, and leave most of the budget idle."""
    x = np.array([3336.0, 5604.0, 9300.0, 16284.0, 28284.0])
    done = fit(POWER, {"x": x}, np.array([2.942, 2.694, 2.426, 2.225, 2.054]), delta=np.inf)
    plan = Forecaster.of(done, uncertainty(done, draws=400, backtest_draws=50))
    for budget, least in ((60000.0, 59000.0), (250000.0, 150000.0)):
        runs = next_runs(plan, {"x": 112000.0}, budget)
        sizes = np.array([112000.0, *(one["inputs"]["x"] for one in runs)])
        assert sizes[1:].sum() > least
        logs = np.log(predict(POWER, plan.known.draws, {"x": sizes})) / plan.known.stretch
        cov = np.cov(logs, rowvar=False, bias=True)
        for count, one in enumerate(runs, 1):  # Gauss' rule for what `count` noisy runs leave open
            own = cov[1 : count + 1, 1 : count + 1] + plan.known.noise**2 * np.eye(count)
            left = cov[0, 0] - cov[0, 1 : count + 1] @ np.linalg.solve(own, cov[1 : count + 1, 0])
            assert one["spread_after"] == pytest.approx(np.sqrt(left), rel=1e-6)


def test_importing_laws_loads_neither_torch_nor_scipy_and_is_quick() -> None:
    code = (
        "import time, numpy; t = time.process_time(); import vario.laws, vario.laws.fit, vario.laws.two_term;"
        "import sys; print(time.process_time() - t, 'torch' in sys.modules, 'scipy' in sys.modules)"
    )
    seconds, *loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert float(seconds) < 0.3 and loaded == ["False", "False"]


def test_every_start_reaches_the_same_end_of_a_dozen_scattered_runs() -> None:
    """Twelve runs whose scatter is twenty times delta: starts that stop short are not other optima."""
    for seed in (1, 3, 5):  # each left most starts stranded, and 3 and 5 nearly all, before starts went on
        rng = np.random.default_rng(seed)
        n, d = np.repeat([1e4, 3e4, 1e5, 3e5], 3), np.tile([1e5, 4e5, 1.6e6], 4)
        loss = (30 * n**-0.2 + 20 * d**-0.2) * np.exp(0.02 * rng.standard_normal(12))
        done = fit(TWO_TERM, {"N": n, "D": d}, loss)
        assert done.agreeing == done.tried
        assert "starts-disagree" not in {one.id for one in cautions(done)}


def sweep(seed: int = 0) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Twelve sizes, thirty rates each: no floor, losses above the best by up to a lot, as rates are."""
    rng = np.random.default_rng(seed)
    n, d = np.repeat([6e7, 2e8, 5e8, 1e9], 3), np.tile([2e9, 2e10, 1e11], 4)
    n, d = np.repeat(n, 30), np.repeat(d, 30)
    off = 0.01 * rng.exponential(size=360) + np.where(rng.random(360) < 0.12, rng.exponential(size=360), 0.0)
    loss, mixed = (8 * n**-0.08 + 2000 * d**-0.37) * np.exp(off), rng.permutation(360)
    return {"N": n[mixed], "D": d[mixed]}, loss[mixed]


def test_steps_follow_a_bent_valley(monkeypatch: pytest.MonkeyPatch) -> None:
    """The floor goes to nothing along a flat curve: straight steps leave it, bent ones do not."""
    x, loss = sweep()
    seen = [0]
    own = type(TWO_TERM).evaluate

    def counting(self: object, theta: np.ndarray, inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        seen[0] += len(theta)
        return own(self, theta, inputs)  # type: ignore[arg-type]

    monkeypatch.setattr(type(TWO_TERM), "evaluate", counting)
    done = fit(TWO_TERM, x, loss)
    bent, seen[0] = seen[0], 0
    monkeypatch.setattr("vario.laws._newton.STRAIGHT", 10**9)
    straight = fit(TWO_TERM, x, loss)
    assert bent < seen[0] / 2
    assert done.objective <= straight.objective * (1 + 1e-9) and done.agreeing >= straight.agreeing


def test_rows_that_share_their_inputs_are_summed_not_lost() -> None:
    x, loss = sweep(1)
    done = fit(TWO_TERM, x, loss)
    weights = np.random.default_rng(0).multinomial(360, np.full(360, 1 / 360), size=5).astype(float)
    ends, totals = done.refit(weights=weights)
    for theta, total, weight in zip(ends, totals, weights, strict=True):
        residual = TWO_TERM.evaluate(theta[None], done.x)[0][0] - done.y
        assert total == pytest.approx(float(weight @ huber(residual, done.delta)), rel=1e-9)
        centred = done.x - done.centre[:, None]
        alone = minimise(
            lambda t, c=centred: TWO_TERM.evaluate(t, c), done.centred[None], done.y - done.level,  # type: ignore[misc]
            weights=weight, delta=done.delta,
        )[1][0]  # fmt: skip
        assert total == pytest.approx(alone, rel=1e-6)
