"""Every rule of identifiability, through ``vario plan fit``: what it refuses, and what it warns of."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.laws.tables import planted
from tests.test_cli_plan import call, write
from vario.cli_plan import _coordinates_text, _fit_text
from vario.laws.head_compute import body
from vario.nouns import VarioError

Array = NDArray[np.float64]
Columns = dict[str, Array]


@pytest.fixture(autouse=True)
def no_looking_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rules do not read earlier forecasts, which take most of the time; their absence is a caution."""
    monkeypatch.setattr("vario.laws._uncertainty.backtest", lambda *a, **k: (np.empty(0), np.empty(0)))


def fit(tmp_path: Path, columns: Columns, *more: object) -> Any:
    rows = [list(row) for row in zip(*(column.tolist() for column in columns.values()), strict=True)]
    law = () if "--law" in more else ("--law", "two-term")
    table = write(tmp_path / "runs.csv", rows, tuple(columns))
    said = call("fit", table, "--bootstrap", 40, *law, *more, "--json")
    return {**said, "ids": {one["id"] for one in said["warnings"]}}


def runs(change: Callable[[Array, Array, Array], tuple[Array, Array, Array]] | None = None) -> Columns:
    x, loss = planted(60)
    n, d, loss = change(x["N"], x["D"], loss) if change else (x["N"], x["D"], loss)
    return {"N": n, "D": d, "loss": loss}


def isoflops(exponent: float = 0.51, *, shift: float = 0.0, bend: float = 0.05) -> Columns:
    """Seven budgets of nine sizes around a best one; loss is no two-term law unless nature wills it."""
    c, off = (a.reshape(-1) for a in np.meshgrid(np.geomspace(1e17, 1e20, 7), np.linspace(-1.5, 1.5, 9)))
    n = 1e7 * (c / 1e17) ** exponent * np.exp(off + shift)
    loss = 1.8 + 1.6 * (c / 1e17) ** -0.15 + bend * (off + shift) ** 2
    return {"N": n, "D": c / (6 * n), "loss": loss * np.exp(1e-3 * np.random.default_rng(0).normal(size=63))}


def without_the_head() -> Columns:
    """Budgets in which an output layer of 50,000 words was left out of N: no two-term law holds in it."""
    width = np.unique(np.geomspace(32, 1024, 26).astype(int)).astype(float)
    small = body(width, np.maximum(width / 64, 1.0))
    n, c = (a.reshape(-1) for a in np.meshgrid(small, np.geomspace(3e15, 3e17, 8)))
    whole = n + 50_000 * np.tile(width, 8)
    loss = 1.8 + 482 * whole**-0.3478 + 2085 * (c / (6 * n)) ** -0.3658
    return {
        "N": n,
        "D": c / (6 * n),
        "loss": loss * np.exp(1e-3 * np.random.default_rng(0).normal(size=n.size)),
    }


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda n, d, loss: (1e8 * (n / n.max()) ** 1e-3, d, loss), "N spans a factor"),
        (lambda n, d, loss: (n, np.full_like(d, 1e10), loss), "D spans a factor of 1"),
        (lambda n, d, loss: (n, 20 * n**1.01, loss), "correlated"),
        (lambda n, d, loss: (np.where(n > 3e8, 1e8, 1e9), d, loss), "2 distinct levels"),
        (lambda n, d, loss: (n[:7], d[:7], loss[:7]), "needs at least 8 rows"),
    ],
)
def test_what_the_runs_cannot_tell_is_refused(tmp_path: Path, change: object, words: str) -> None:
    said = fit(tmp_path, runs(change))  # type: ignore[arg-type]
    assert words in str(said["refused"]) and said["objective"] is None and said["parameters"] == {}


def test_seven_rows_are_enough_for_one_exponent(tmp_path: Path) -> None:
    few = {name: column[:7] for name, column in runs().items()}
    said = fit(tmp_path, few, "--law", "auto")
    assert said["refused"] is None and said["law"] == "two-term-tied"


def test_a_sound_table_is_fitted_without_a_warning(tmp_path: Path) -> None:
    said = fit(tmp_path, runs())
    assert said["refused"] is None and said["ids"] == {"unchecked-forecast"}
    assert said["tied"]["enough"] and said["counted"] == {"embeddings": None, "head": None}


def test_a_floor_at_zero_and_a_term_that_is_not_there(tmp_path: Path) -> None:
    noise = np.exp(0.003 * np.random.default_rng(1).normal(size=60))
    said = fit(tmp_path, runs(lambda n, d, loss: (n, d, (20 * n**-0.1 + 8 * d**-0.1) * noise)))
    assert "floor-at-zero" in said["ids"] and "exponent-at-bound" not in said["ids"]
    (bound,) = (one["text"] for one in said["warnings"] if one["id"] == "one-sided")
    assert "exp(e) can lie anywhere from 0 to " in bound and "inf" not in bound
    alone = fit(tmp_path, runs(lambda n, d, loss: (n, d, (1.8 + 480 * n**-0.35) * noise)))
    assert "exponent-at-bound" in alone["ids"]


def test_a_floor_with_a_bound_on_one_side_only(tmp_path: Path) -> None:
    noise = np.exp(0.02 * np.random.default_rng(0).normal(size=12))
    n, d = np.repeat([1e7, 3e7, 1e8, 3e8], 3), np.tile([1e9, 4e9, 16e9], 4)
    said = fit(tmp_path, {"N": n, "D": d, "loss": (30 * n**-0.2 + 60 * d**-0.2 + 0.3) * noise})
    told = {one["id"]: one["text"] for one in said["warnings"]}
    assert "from 0 to" in told["one-sided"]


def test_a_line_on_curving_data(tmp_path: Path) -> None:
    size = np.geomspace(1e6, 1e10, 30)
    columns = {"x": size, "loss": 2 + 300 * size**-0.4}
    assert "curving-without-floor" in fit(tmp_path, columns, "--law", "power")["ids"]
    assert "curving-without-floor" not in fit(tmp_path, columns, "--law", "power-floor")["ids"]
    u = np.log(size / 1e6)
    for law in ("power", "power-floor"):  # steeper as it grows: the floor lies at zero, and mends nothing
        said = fit(tmp_path, {"x": size, "loss": np.exp(2 - 0.1 * u - 0.01 * u**2)}, "--law", law)
        told = {one["id"]: one["text"] for one in said["warnings"]}
        assert "no floor mends" in told["curving-without-floor"]


def test_budgets_are_found_and_held_against_the_law(tmp_path: Path) -> None:
    sound = isoflops()
    sound["loss"] = 1.8172 + 482.01 * sound["N"] ** -0.3478 + 2085.43 * sound["D"] ** -0.3658
    said = fit(tmp_path, sound)
    found = said["frontier"]["n_exponent"]
    assert found["low"] - 0.01 <= 0.3658 / (0.3478 + 0.3658) <= found["high"] + 0.01
    assert not {"budgets-dropped", "estimates-disagree"} & said["ids"]
    other = fit(tmp_path, without_the_head())
    told = {one["id"]: one["text"] for one in other["warnings"]}
    assert "the law is misspecified" in told["estimates-disagree"]
    edge = isoflops(bend=0.3)
    keep = (edge["N"] * edge["D"] > 2e16) | (edge["N"] < 0.9e7)  # the smallest budget lost its larger sizes
    said = fit(tmp_path, {name: column[keep] for name, column in edge.items()})
    assert "budgets-dropped" in said["ids"] and len(said["frontier"]["dropped"]) == 1


def test_one_exponent_where_there_are_two(tmp_path: Path) -> None:
    noise = np.exp(0.002 * np.random.default_rng(0).normal(size=60))
    two = runs(lambda n, d, loss: (n, d, (1.8 + 4000 * n**-0.5 + 60 * d**-0.2) * noise))
    for law in ("over-training", "two-term-tied"):
        assert "one-exponent-is-not-enough" in fit(tmp_path, two, "--law", law)["ids"]
        assert "one-exponent-is-not-enough" not in fit(tmp_path, runs(), "--law", law)["ids"]
    assert not fit(tmp_path, two)["tied"]["enough"]


def test_an_output_layer_left_out_is_noticed_by_name_or_given(tmp_path: Path) -> None:
    width = np.tile([64.0, 128, 256, 512, 1024], 6)
    layers = width / 64
    small, whole = body(width, layers), body(width, layers) + 50_000 * width
    d = np.repeat([2e9, 5e9, 1e10, 3e10, 1e11, 3e11], 5)
    loss = (1.8 + 482 * whole**-0.3478 + 2085 * d**-0.3658) * np.exp(
        1e-3 * np.random.default_rng(0).normal(size=30)
    )
    named = {
        "N": small,
        "D": d,
        "loss": loss,
        "d_model": width,
        "n_layer": layers,
        "vocab_size": 0 * d + 50_000,
    }
    said = fit(tmp_path, named)
    assert "head-not-counted" in said["ids"] and said["counted"]["head"] is False
    counted = fit(tmp_path, {**named, "N": whole})
    assert "head-not-counted" not in counted["ids"] and counted["counted"]["head"] is True
    odd = {"N": small, "D": d, "loss": loss, "breadth": width, "blocks": layers}
    assert "head-not-counted" not in fit(tmp_path, odd)["ids"]
    given = "N=N,D=D,loss=loss,width=breadth,layers=blocks,vocabulary=50000"
    assert "head-not-counted" in fit(tmp_path, odd, "--columns", given)["ids"]
    assert "sizes-unexplained" in fit(tmp_path, {**named, "N": whole * 3})["ids"]
    both = fit(tmp_path, {"N": small, "D": d, "loss": loss, "params_no_embed": small})
    assert "head-not-counted" in both["ids"] and both["counted"]["embeddings"] is False
    assert fit(tmp_path, {"N": whole, "D": d, "loss": loss, "params_no_embed": small})["counted"][
        "embeddings"
    ]


def test_flops_that_count_other_layers_or_stand_in_another_unit(tmp_path: Path) -> None:
    own = runs()
    c = 6 * own["N"] * own["D"]
    drift = fit(tmp_path, {**own, "flops": c * (own["N"] / own["N"].max()) ** 0.1})
    assert "flops-and-sizes-differ" in drift["ids"]
    assert not {"flops-and-sizes-differ", "unit-slip"} & fit(tmp_path, {**own, "flops": c})["ids"]
    assert "unit-slip" in fit(tmp_path, {**own, "flops": c / 1e18})["ids"]


def test_outliers_and_short_runs_are_named_by_their_rows_in_the_file(tmp_path: Path) -> None:
    own = runs()
    own["loss"][7] *= 1.5
    own["D"][:9] = 0.5 * own["N"][:9]
    said = fit(tmp_path, {**own, "run": np.arange(60.0)}, "--where", "run != 3")
    told = {one["id"]: one["text"] for one in said["warnings"]}
    assert "under-trained-rows" in told and "8" in told["outliers"].split("rows ")[-1]


def test_a_column_given_that_is_wrong_is_an_error_and_one_found_is_left_out(tmp_path: Path) -> None:
    own = runs()
    own["flops"] = np.full(60, np.nan)
    assert fit(tmp_path, own)["refused"] is None
    with pytest.raises(Exception, match="row 1, column C"):
        fit(tmp_path, own, "--columns", "C=flops")


def test_tries_beyond_thirty_times_the_samples_are_marked_and_unsolved_problems_stay(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    correct = rng.binomial(50, rng.beta(0.35, 3, 200))
    table = write(tmp_path / "counts.csv", [[50, int(one)] for one in correct], ("tries", "right"))
    columns = ("--columns", "samples=tries,correct=right")
    told = call("coverage", table, *columns, "--at", "1,50,1000,2000", "--json")
    assert [row["far"] for row in told["coverage"]] == [False, False, False, True]
    assert told["problems"] == 200 and told["solved"] == (correct > 0).sum() < 200
    assert told["coverage"][0]["value"] == pytest.approx(correct.mean() / 50)
    assert told["coverage"][1]["value"] == pytest.approx((correct > 0).mean())
    bad = write(tmp_path / "bad.csv", [[50, 3], [50, 51]], ("samples", "correct"))
    with pytest.raises(Exception, match="row 2: 51 right out of 50"):
        call("coverage", bad, "--json")


def test_checkpoints_of_a_few_runs_are_not_many_runs(tmp_path: Path) -> None:
    for count, few in ((6, True), (30, False)):
        own = {**runs(), "run": np.arange(60.0) // (60 // count)}
        said = fit(tmp_path, own, "--block", "run")
        assert ("few-blocks" in said["ids"]) is few
        assert said["uncertainty"]["bootstrap"].startswith("blocks")
    assert "few-blocks" not in fit(tmp_path, own)["ids"]


def test_a_largest_budget_that_the_smaller_do_not_foretell_is_told(tmp_path: Path) -> None:
    """Budgets of a true law; then the same with the largest one 2 % lower than the law has it."""
    c, ratio = (a.reshape(-1) for a in np.meshgrid(np.geomspace(1e17, 1e20, 7), np.geomspace(5, 80, 7)))
    n = np.sqrt(c / 6 / ratio)
    d = ratio * n
    loss = 1.8172 + 482.01 * n**-0.3478 + 2085.43 * d**-0.3658
    loss = loss * np.exp(1e-3 * np.random.default_rng(0).normal(size=n.size))
    lower = np.where(c > 9e19, 0.98, 1.0)
    for falls, told in ((1.0, False), (lower, True)):
        said = fit(tmp_path, {"N": n, "D": d, "loss": loss * falls})
        assert ("largest-budget-missed" in said["ids"]) is told
    text = next(one["text"] for one in said["warnings"] if one["id"] == "largest-budget-missed")
    assert "too high there" in text and "1e+20 FLOPs" in text


def test_runs_that_something_else_moves_more_than_twice_the_compute_are_told(tmp_path: Path) -> None:
    """A batch of three sizes moves the loss by 15 %, as in contrastive losses; then by 1 %."""
    own, batch = runs(), np.arange(60) % 3 - 1.0
    for moves, told in ((0.15, True), (0.01, False)):
        said = fit(tmp_path, {**own, "loss": own["loss"] * np.exp(moves * batch)})
        assert ("scattered" in said["ids"]) is told
        text = next((one["text"] for one in said["warnings"] if one["id"] == "scattered"), "batch")
        assert "batch" in text


def test_a_coordinate_check_says_what_moves_otherwise() -> None:
    level, steep = {"module": "0", "slope": 0.05}, {"module": "out", "slope": -0.3}
    assert "alike at every width" in _coordinates_text([level])
    assert "out (-0.30)" in _coordinates_text([level, steep])
    assert "alike" not in _coordinates_text([level, steep])
    assert "start that layer at zero" in _coordinates_text([level, steep])
    assert "at zero" not in _coordinates_text([steep, level])


def test_equal_widths_are_no_growth(tmp_path: Path) -> None:
    with pytest.raises(VarioError, match="both 64"):
        call("mup", tmp_path / "model.py", "--width", "64", "--base", "64")


def test_what_the_form_fixes_is_not_shown_as_measured() -> None:
    fixed, free = ({"value": 0.5, "low": low, "high": 0.5} for low in (0.5, 0.4))
    shown: dict[str, Any] = {"refused": None, "law": "a", "n": 9, "delta": 1.0, "objective": 1.0}
    shown |= {"neighbours": [], "starts": {"agreeing": 1, "tried": 1}, "warnings": []}
    shown |= {"parameters": {"x": fixed, "y": free}, "derived": {}}
    said = _fit_text(shown).splitlines()
    assert "by the form of this law" in said[1] and "95 % 0.4 to 0.5" in said[2]
