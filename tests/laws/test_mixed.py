"""Test ``vario.laws._mixed``: several families and sweeps in one table are told, replicates are not."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from vario.laws._answer import Answer, answer

SIZES = [(n, d) for n in 10 ** np.array([7.0, 7.5, 8.0, 8.5]) for d in 10 ** np.array([8.7, 9.2, 9.7, 10.2])]


def loss(n: float, d: float) -> float:
    return float(1.8 + 420.0 * n**-0.35 + 1200.0 * d**-0.35)


def written(path: Path, beside: dict[str, float], noise: float) -> Path:
    """Every size once for each key of ``beside``, its loss times the value there."""
    rng = np.random.default_rng(0)
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["kind", "N", "D", "loss"])
        for kind, times in beside.items():
            for n, d in SIZES:
                rows.writerow([kind, n, d, loss(n, d) * times * np.exp(noise * rng.standard_normal())])
    return path


def fitted(path: Path, *, best_only: bool = False) -> Answer:
    return answer(path, "", law="two-term-tied", bootstrap=20, best_only=best_only)


def told(done: Answer) -> dict[str, str]:
    return {one["id"]: one["text"] for one in done.shown["warnings"]}


def test_two_families_are_told_and_how_to_take_one(tmp_path: Path) -> None:
    said = told(fitted(written(tmp_path / "a.csv", {"web": 1.0, "code": 0.95}, 0.003)))
    assert "--where 'kind == \"code\"'" in said["several-families"]
    assert "5.1 %" in said["several-families"] or "5 %" in said["several-families"]


@pytest.mark.parametrize("apart", [1.0, 1.001])
def test_alike_parts_are_not_families(tmp_path: Path, apart: float) -> None:
    said = told(fitted(written(tmp_path / "a.csv", {"one": 1.0, "two": apart}, 0.003)))
    assert "several-families" not in said


def test_a_sweep_is_told_and_its_lower_edge_is_the_law(tmp_path: Path) -> None:
    rates = {"1e-4": 1.06, "3e-4": 1.02, "1e-3": 1.0, "3e-3": 1.03}
    path = written(tmp_path / "a.csv", rates, 0.0)
    assert "--best" in told(fitted(path))["swept"]
    best = fitted(path, best_only=True)
    assert best.shown["n"] == len(SIZES) and "swept" not in told(best)
    assert best.shown["derived"]["E"]["value"] == pytest.approx(1.8, rel=1e-3)


def test_seeds_are_no_sweep(tmp_path: Path) -> None:
    said = told(fitted(written(tmp_path / "a.csv", {"0": 1.0, "1": 1.0, "2": 1.0}, 0.004)))
    assert "swept" not in said


@pytest.mark.parametrize(("lengths", "suspected"), [(12, True), (6, False)])
def test_checkpoints_of_a_few_runs_are_asked_about(tmp_path: Path, lengths: int, suspected: bool) -> None:
    path, rng = tmp_path / "runs.csv", np.random.default_rng(0)
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["run", "N", "D", "loss"])
        for run, n in enumerate(np.geomspace(1e7, 1e9, 8)):
            for d in np.geomspace(3e8, 1e10, lengths):
                rows.writerow([run, n, d, loss(n, d) * np.exp(1e-3 * rng.standard_normal())])
    plain = fitted(path)
    assert ("may-be-checkpoints" in told(plain)) is suspected
    if suspected:
        assert "96 rows have 8 values of N" in told(plain)["may-be-checkpoints"]
        of_runs = answer(path, "", law="two-term-tied", bootstrap=20, block="run")
        assert "may-be-checkpoints" not in told(of_runs)
        assert of_runs.shown["uncertainty"]["bootstrap"].startswith("blocks")


def test_losses_of_several_vocabularies_or_held_out_sets_are_told() -> None:
    count = len(SIZES)
    table = {
        "N": np.array([n for n, _ in SIZES]), "D": np.array([d for _, d in SIZES]),
        "loss": np.array([loss(*one) for one in SIZES]), "classes": np.full(count, 96.0),
        "eval_examples": np.full(count, 16384.0),
    }  # fmt: skip
    table["loss_train"] = table["loss"]

    def texts(change: dict[str, float], columns: str = "") -> list[str]:
        changed = {name: column.copy() for name, column in table.items()}
        for name, value in change.items():
            changed[name][-1] = value
        done = answer(changed, columns, law="two-term-tied", bootstrap=20)
        return [one["text"] for one in done.shown["warnings"] if one["id"] == "losses-differ"]

    assert not texts({}) and not texts({"eval_examples": 16000.0})  # the last batch was left out
    assert not texts({"classes": np.nan})  # what is not known differs from nothing
    (text,) = texts({"classes": 70.0})
    assert "70, 96 classes" in text and "--where 'classes == 96'" in text
    (mixed,) = texts({"eval_examples": np.nan})
    assert mixed.startswith(f"{count - 1} of {count} losses are of an evaluation") and "loss_train" in mixed
    assert "8192 to 16384" in texts({"eval_examples": 8192.0})[0]
    assert not texts({"eval_examples": np.nan}, "loss=loss_train")
