"""Test ``vario.cli_plan``: the contract, bad tables, and expressions that are not executed."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from tests.laws.tables import path as published
from tests.laws.tables import planted
from vario.cli_plan import app
from vario.laws._table import evaluate, pairs
from vario.nouns import VarioError

COLUMNS = ["--columns", "N=params,D=tokens,loss=loss"]
QUICK = ["--law", "two-term", "--bootstrap", 20, "--json"]


def write(file: Path, rows: list[list[Any]], header: tuple[str, ...] = ("params", "tokens", "loss")) -> Path:
    with file.open("w", newline="") as out:
        csv.writer(out).writerows([header, *rows])
    return file


def runs(count: int = 40) -> list[list[Any]]:
    x, loss = planted(count)
    return [[float(n), float(d), float(one)] for n, d, one in zip(x["N"], x["D"], loss, strict=True)]


def call(*arguments: object) -> Any:
    result = CliRunner().invoke(app, [str(one) for one in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return json.loads(result.output, parse_constant=pytest.fail)  # NaN and Infinity are no JSON


def test_an_endless_delta_is_json_that_every_reader_takes(tmp_path: Path) -> None:
    kept = tmp_path / "fit.json"
    said = call("fit", write(tmp_path / "runs.csv", runs()), *COLUMNS, *QUICK, "--delta", "inf", "-o", kept)
    assert said["delta"] == np.inf and '"delta": 1e999' in kept.read_text()
    assert call("predict", kept, "--at", "N=7e9,D=1.4e11", "--json")["low"] > 1


def test_fit_and_predict_keep_the_contract(tmp_path: Path) -> None:
    table, kept = write(tmp_path / "runs.csv", runs()), tmp_path / "fit.json"
    said = call(
        "fit", table, "--law", "two-term", *COLUMNS, "--bootstrap", 50, "--seed", 1, "-o", kept, "--json"
    )
    assert {"law", "n", "delta", "objective", "parameters", "derived", "warnings", "refused"} <= set(said)
    assert (said["law"], said["n"], said["delta"], said["refused"]) == ("two-term", 40, 1e-3, None)
    assert set(said["parameters"]) == {"e", "a", "alpha", "b", "beta"} and {"A", "B", "E"} <= set(
        said["derived"]
    )
    for number in said["parameters"].values():
        assert number["low"] <= number["value"] <= number["high"]
    told = call("predict", kept, "--at", "N=7e9,D=1.4e11", "--json")
    assert set(told) == {"value", "low", "high", "decades"} and told["low"] < told["value"] < told["high"]
    truth = 1.8172 + 482.01 * 7e9**-0.3478 + 2085.43 * 1.4e11**-0.3658
    assert told["value"] == pytest.approx(truth, rel=0.02)
    best = call("predict", kept, "--compute", 1e22, "--json")
    assert best["tokens_per_parameter"]["low"] < best["tokens_per_parameter"]["high"]
    assert call("design", kept, "--target", "N=7e10,D=1e12", "--budget", 1e21, "--json")["runs"]


def test_the_published_table_through_the_command() -> None:
    table = published("chinchilla.csv")
    said = call(
        "fit",
        table,
        "--law",
        "two-term",
        *COLUMNS,
        "--delta",
        "1e-3",
        "--bootstrap",
        20,
        "--where",
        "loss < 3.446",
        "--json",
    )
    assert said["n"] == 240 and said["objective"] <= 0.00101828
    assert said["derived"]["A"]["value"] == pytest.approx(477.8, abs=2)


def test_other_names_and_units(tmp_path: Path) -> None:
    rows = [[n / 1e6, d / 1e9, loss / np.log(2)] for n, d, loss in runs()]
    table = write(tmp_path / "runs.csv", rows, ("size (M)", "data_B", "bits"))
    said = call("fit", table, "--columns", "N=size (M),D=data_B,loss=bits", "--bootstrap", 20, "--json")
    plain = call("fit", write(tmp_path / "plain.csv", runs()), *COLUMNS, "--bootstrap", 20, "--json")
    assert said["objective"] == pytest.approx(plain["objective"], rel=1e-6)
    assert said["parameters"]["alpha"]["value"] == pytest.approx(
        plain["parameters"]["alpha"]["value"], rel=1e-6
    )
    assert "unit-slip" in {one["id"] for one in said["warnings"]}
    scaled = call(
        "fit",
        table,
        "--columns",
        "N=`size (M)`*1e6,D=data_B*1e9,loss=bits*log(2)",
        "--bootstrap",
        20,
        "--json",
    )
    assert "unit-slip" not in {one["id"] for one in scaled["warnings"]}
    assert scaled["derived"]["A"]["value"] == pytest.approx(plain["derived"]["A"]["value"], rel=1e-4)


def test_a_refusal_is_an_answer(tmp_path: Path) -> None:
    table = write(tmp_path / "runs.csv", [[n, 20 * n, loss] for n, _, loss in runs()])
    kept = tmp_path / "fit.json"
    said = call("fit", table, *COLUMNS, "-o", kept, "--json")
    assert "correlated" in said["refused"] and said["parameters"] == {} and said["objective"] is None
    with pytest.raises(VarioError, match="holds a refusal"):
        call("predict", kept, "--at", "N=1e9,D=1e10", "--json")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda rows: rows[2].__setitem__(2, float("nan")), "row 3, column loss"),
        (lambda rows: rows[4].__setitem__(2, -1.0), "row 5, column loss"),
        (lambda rows: rows[6].__setitem__(0, rows[6][0] / 1e6), r"row 7, column N \(params\)"),
        (lambda rows: rows.append(list(rows[0])), "rows 1 and 41"),
        (lambda rows: rows.__delitem__(slice(1, None)), "1 row"),
        (lambda rows: rows[3].__setitem__(1, "many"), "row 4, column D .tokens. holds text .'many'."),
        (lambda rows: rows[3].__setitem__(1, float("inf")), r"row 4, column D \(tokens\).*isfinite\(D\)"),
        (lambda rows: rows[3].pop(), "row 4: 2 cells"),
    ],
)
def test_a_bad_table_is_named_by_row_and_column(tmp_path: Path, change: Any, words: str) -> None:
    rows = runs()
    change(rows)
    with pytest.raises(VarioError, match=words):
        call("fit", write(tmp_path / "runs.csv", rows), *COLUMNS, "--bootstrap", 20, "--json")


@pytest.mark.parametrize(
    ("separator", "spell"),
    [
        (";", lambda cell: f"{cell:.9g}".replace(".", ",")),
        ("\t", lambda cell: f"{cell:.9g}"),
        (",", lambda cell: f'"{cell:,.0f}"' if cell > 1e6 else f"{cell:.9g}"),
    ],
)
def test_other_separators_and_marks_are_read_alike(tmp_path: Path, separator: str, spell: Any) -> None:
    rows = [[float(f"{cell:.0f}" if cell > 1e6 else f"{cell:.9g}") for cell in row] for row in runs()]
    plain = call("fit", write(tmp_path / "plain.csv", rows), *COLUMNS, *QUICK)
    lines = [separator.join(("params", "tokens", "loss"))]
    lines += [separator.join(spell(cell) for cell in row) for row in rows]
    file = tmp_path / "other.csv"
    file.write_bytes(("\ufeff" + "\r\n".join(lines)).encode())
    said = call("fit", file, *COLUMNS, *QUICK)
    assert said["objective"] == pytest.approx(plain["objective"], rel=1e-3)
    assert said["derived"]["E"]["value"] == pytest.approx(plain["derived"]["E"]["value"], rel=1e-3)


def test_a_comma_that_could_be_either_is_an_error(tmp_path: Path) -> None:
    rows = [[n, d, f"{loss:.3f}".replace(".", ",")] for n, d, loss in runs()]
    with pytest.raises(VarioError, match=r"row 1, column loss holds text \('\d,\d{3}'\)"):
        call("fit", write(tmp_path / "runs.csv", rows), *COLUMNS, *QUICK)


@pytest.mark.parametrize("cell", ["NA", "n/a", "None", ""])
def test_a_missing_cell_is_named_and_can_be_left_out(tmp_path: Path, cell: str) -> None:
    rows = runs()
    rows[4][2] = cell  # type: ignore[call-overload]
    table = write(tmp_path / "runs.csv", rows)
    with pytest.raises(VarioError, match=r"row 5, column loss.*isfinite\(loss\)"):
        call("fit", table, *COLUMNS, *QUICK)
    assert call("fit", table, *COLUMNS, *QUICK, "--where", "isfinite(loss)")["n"] == 39


def test_what_cannot_be_a_table_or_a_condition(tmp_path: Path) -> None:
    table = write(tmp_path / "runs.csv", runs())
    for words, where in (("no condition", "loss"), ("mixes text and numbers", "loss > 'a'")):
        with pytest.raises(VarioError, match=words):
            call("fit", table, *COLUMNS, *QUICK, "--where", where)
    with pytest.raises(VarioError, match="two columns are called 'tokens'"):
        call("fit", write(tmp_path / "twice.csv", runs(), ("tokens", "tokens", "loss")), *COLUMNS)
    level = [[n, d, 2.5] for n, d, _ in runs()]
    with pytest.raises(VarioError, match="loss is 2.5 in every row"):
        call("fit", write(tmp_path / "level.csv", level), *COLUMNS)
    mixed = [[n / (1e6 if i % 2 else 1), d, loss] for i, (n, d, loss) in enumerate(runs())]
    said = call("fit", write(tmp_path / "mixed.csv", mixed), *COLUMNS, *QUICK)
    assert any("N has no value between" in one["text"] for one in said["warnings"])


def test_parquet_is_known_by_its_content_and_its_text_is_read(tmp_path: Path) -> None:
    parquet, arrow = pytest.importorskip("pyarrow.parquet"), pytest.importorskip("pyarrow")
    names, columns = ("params", "tokens", "loss"), list(zip(*runs(), strict=True))
    for i, spell in enumerate((float, str)):
        file = tmp_path / f"runs{i}.pq"
        parquet.write_table(
            arrow.table({k: [spell(v) for v in c] for k, c in zip(names, columns, strict=True)}), file
        )
        assert call("fit", file, *COLUMNS, *QUICK)["n"] == 40
    parquet.write_table(arrow.table({}), tmp_path / "none.parquet")
    with pytest.raises(VarioError, match="no rows"):
        call("fit", tmp_path / "none.parquet", *COLUMNS)


@pytest.mark.parametrize("name", ["runs.csv", "runs.parquet"])
def test_a_file_that_is_no_table(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"PAR1\xe9\xff junk")
    with pytest.raises(VarioError, match="is not a"):
        call("fit", tmp_path / name, *COLUMNS)


def test_a_perplexity_is_told_from_a_loss(tmp_path: Path) -> None:
    table = write(tmp_path / "runs.csv", [[n, d, float(np.exp(loss))] for n, d, loss in runs()])
    said = call("fit", table, *COLUMNS, "--bootstrap", 20, "--law", "two-term", "--json")
    assert any("log(ppl)" in one["text"] for one in said["warnings"])


def test_a_missing_column_and_wrong_options(tmp_path: Path) -> None:
    table = write(tmp_path / "runs.csv", runs())
    with pytest.raises(VarioError, match="'flops'.*missing.*params, tokens, loss"):
        call("fit", table, "--columns", "N=params,D=flops,loss=loss", "--json")
    with pytest.raises(VarioError, match="no law 'three-term'"):
        call("fit", table, *COLUMNS, "--law", "three-term")
    with pytest.raises(VarioError, match="--delta"):
        call("fit", table, *COLUMNS, "--delta", "wide")


def test_compare_and_auto_choose_by_earlier_forecasts(tmp_path: Path) -> None:
    table = write(tmp_path / "runs.csv", runs(60))
    found = call("compare", table, *COLUMNS, "--laws", "two-term,two-term-tied,kaplan", "--json")
    assert found[-1]["law"] == "kaplan" and found[0]["error"] <= found[-1]["error"]
    said = call("fit", table, *COLUMNS, "--law", "auto", "--bootstrap", 20, "--json")
    assert "chosen-by-forecasts" in {one["id"] for one in said["warnings"]}
    few = write(tmp_path / "few.csv", runs(5))
    said = CliRunner().invoke(app, ["compare", str(few), *COLUMNS, "--laws", "two-term,kaplan"])
    lines = said.stdout.splitlines()
    assert len(lines) == 2 and all("refused: 5 rows" in line for line in lines)  # once for both deltas


def test_records_know_how_much_of_n_is_embeddings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    n, d, loss = (np.array(column) for column in zip(*runs(), strict=True))
    found = {"run": np.arange(len(n)).astype(str), "params": n, "tokens": d, "loss": loss}
    for name in ("batch", "steps"):
        found[name] = np.ones(len(n))
    for share, counted in ((0.1, True), (0.0, None)):
        own = {**found, "embedding": share * n}
        monkeypatch.setattr("vario.record.table.runs_table", lambda places, own=own: (own, {}))
        assert (
            call("fit", tmp_path, "--law", "two-term", *QUICK, "--json")["counted"]["embeddings"] is counted
        )


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true')",
        "a.real",
        "(lambda: 1)()",
        "a[0]",
        "[x for x in a]",
        "a if a else 1",
        "'x' * 9 ** 9 ** 9 if 1 else 0",
    ],
)
def test_nothing_is_ever_executed(text: str) -> None:
    with pytest.raises(VarioError):
        evaluate(text, {"a": np.ones(3)})


def test_expressions_and_pairs() -> None:
    columns = {
        "a": np.array([1.0, 2, 3]),
        "kind": np.array(["x", "y", "x"]),
        "two words": np.array([4.0, 5, 6]),
    }
    assert list(evaluate("a > 1 and not kind == 'y'", columns)) == [False, False, True]
    assert list(evaluate("1 < a <= 3 or kind in ('y',)", columns)) == [False, True, True]
    assert list(evaluate("log10(`two words` * 10 ** 2)", columns)) == pytest.approx(np.log10([400, 500, 600]))
    assert pairs("N=params, D=max(a,b),x=`c,d`", option="--columns") == {
        "N": "params",
        "D": "max(a,b)",
        "x": "`c,d`",
    }
    with pytest.raises(VarioError, match="NAME=VALUE"):
        pairs("N", option="--columns")


def test_the_largest_runs_of_a_published_table_are_foretold_from_the_others(tmp_path: Path) -> None:
    """Chosen by the runs that are left alone: the held-out budget plays no part in the choice."""
    import tests.laws.tables as tables

    runs = tables.table("porian_rw_isoflop_points.csv")
    keys = {"hparams": "base", "warmup": "long", "decay": "kaplan", "param_count": "standard", "split": "val"}
    own = np.all([runs[key] == value for key, value in keys.items()], axis=0)
    late = own & (runs["flops"] == runs["flops"][own].max())
    rows = [[runs[k][i] for k in ("params", "tokens", "loss")] for i in np.flatnonzero(own & ~late)]
    kept = tmp_path / "fit.json"
    call("fit", write(tmp_path / "runs.csv", rows), *COLUMNS, "--bootstrap", 40, "-o", kept, "--json")
    for i in np.flatnonzero(late)[::3]:
        at = f"N={runs['params'][i]},D={runs['tokens'][i]}"
        said = call("predict", kept, "--at", at, "--json")
        assert said["value"] == pytest.approx(runs["loss"][i], rel=0.02)
        assert said["low"] <= runs["loss"][i] <= said["high"]
