"""Tables as people write them: thousands marked, decimal commas, sizes in words, any order and unit."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.test_cli_plan import COLUMNS, QUICK, call, runs
from vario.laws._answer import load
from vario.laws._design import next_runs, spread_now
from vario.laws._file import read
from vario.laws._table import guess, number
from vario.nouns import VarioError


@pytest.fixture(autouse=True)
def no_looking_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading does not hang on earlier forecasts, which take most of the time."""
    monkeypatch.setattr("vario.laws._uncertainty.backtest", lambda *a, **k: (np.empty(0), np.empty(0)))


def write(file: Path, spell: Callable[[float], str], *, separator: str = ",") -> Path:
    lines = [("params", "tokens", "loss"), *([spell(cell) for cell in row] for row in runs())]
    file.write_text("\n".join(separator.join(line) for line in lines), encoding="utf-8")
    return file


def thousands(cell: float) -> str:
    return f"{cell:,.0f}" if cell > 1e4 else f"{cell:.5f}"


def words(cell: float) -> str:
    return f"{cell / 1e9:.9f} B" if cell > 1e9 else f"{cell / 1e6:.6f}M" if cell > 1e4 else f"{cell:.5f}"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_what_spreadsheets_save_is_read(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "a.csv").write_text("# by hand\nGröße\ttokens\n7.5\t3\n\n8\t4\n", encoding=encoding)
    got = read(tmp_path / "a.csv")
    assert list(got) == ["Größe", "tokens"] and got["Größe"].tolist() == [7.5, 8.0]


def test_a_workbook_and_other_bytes_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.xlsx").write_bytes(b"PK\x03\x04" + bytes(20))
    (tmp_path / "b.csv").write_bytes(b"N,D\n1,\x00\x01\n")
    with pytest.raises(VarioError, match="workbook"):
        read(tmp_path / "a.xlsx")
    with pytest.raises(VarioError, match="not a table in text"):
        read(tmp_path / "b.csv")


@pytest.mark.parametrize(
    ("spell", "separator"),
    [
        (lambda c: f'"{thousands(c)}"', ","),
        (lambda c: thousands(c).translate(str.maketrans(",.", ".,")), ";"),
        (lambda c: f"{c:.3f}".replace(".", ","), ";"),
        (lambda c: thousands(c).replace(",", " "), ","),
        (lambda c: thousands(c).replace(",", "\u202f"), "\t"),
        (lambda c: thousands(c).replace(",", "'"), "|"),
        (words, ","),
    ],
)
def test_a_table_is_read_as_it_was_meant(
    tmp_path: Path, spell: Callable[[float], str], separator: str
) -> None:
    got = read(write(tmp_path / "runs.csv", spell, separator=separator))
    said = call("fit", tmp_path / "runs.csv", *COLUMNS, *QUICK)
    plain = call("fit", write(tmp_path / "plain.csv", repr), *COLUMNS, *QUICK)
    assert list(got) == ["params", "tokens", "loss"] and said["n"] == 40
    assert said["parameters"]["alpha"]["value"] == pytest.approx(
        plain["parameters"]["alpha"]["value"], rel=0.02
    )


def test_every_layout_of_json_blanks_markdown_and_gzip_read_like_csv(tmp_path: Path) -> None:
    names, numbers = ("params", "tokens", "loss"), runs()
    plain = read(write(tmp_path / "plain.csv", repr))
    rows = [dict(zip(names, row, strict=True)) for row in numbers]
    by_number = {name: {str(i): row[name] for i, row in enumerate(rows)} for name in names}
    marked = ["| params | tokens | loss |", "|---|:--|---|"]
    texts = {
        "a.jsonl": "\n".join(map(json.dumps, rows)) + "\n\n",
        "a.json": json.dumps(rows, indent=1),
        "columns.json": json.dumps({name: [row[name] for row in rows] for name in names}, indent=1),
        "by_number.json": json.dumps(by_number),
        "named.json": json.dumps({f"run {i}": row for i, row in enumerate(rows)}),
        "beside.json": json.dumps({"made": "by hand", "runs": rows}),
        "a.md": "\n".join(marked + [f"| {n!r} | {d!r} | {y!r} |" for n, d, y in numbers]),
        "a.txt": "\n".join([" params   tokens  loss ", *(f"{n!r}   {d!r} {y!r}  " for n, d, y in numbers)]),
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
        got = read(tmp_path / name)
        assert all(got[column].tolist() == plain[column].tolist() for column in names), name
    packed = gzip.compress(texts["a.jsonl"].encode())
    (tmp_path / "a.gz").write_bytes(packed)
    assert read(tmp_path / "a.gz")["loss"].tolist() == plain["loss"].tolist()
    (tmp_path / "a.gz").write_bytes(packed[:-50])
    with pytest.raises(VarioError, match="cut or broken"):
        read(tmp_path / "a.gz")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            '{"params": 1e9, "tokens": 2e10, "loss": 2.5}\n{"params": 1e9, "loss": NaN}',
            "row 2, column D .tokens.*nan",
        ),
        ('{"params": 1e9, "tokens": 2e10, "loss": 2.5}\n{"params": 1e9, ', "row 2 is not JSON"),
        ('[{"params": 1e9}, 3]', "row 2 is no object"),
        ("[]", "row 1 is no object"),
        ('{"law": "two-term", "plan": null}', "no column|missing"),
        ("params:tokens:loss\n1:2:3\n", "header is one name, 'params:tokens:loss'"),
        ("Runs of May\nparams,tokens,loss\n1,2,3\n", "1 cells, but the header, 'Runs of May', names 3"),
    ],
)
def test_what_is_wrong_in_other_files_is_named(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "runs").write_text(text)
    with pytest.raises(VarioError, match=words):
        call("fit", tmp_path / "runs", *COLUMNS, *QUICK)


def test_a_comma_that_could_be_either_is_an_error_unless_another_column_tells(tmp_path: Path) -> None:
    file = tmp_path / "runs.csv"
    file.write_text("a;b\n1,234;5\n2,345;6\n")
    assert read(file)["a"].dtype.kind == "U"
    file.write_text("a;b\n1,234;5,5\n2,345;6,25\n")
    assert list(read(file)["a"]) == [1.234, 2.345]
    file.write_text("a;b\n1,234;5.5\n2,345;6.25\n")  # thousands, or decimals typed by another hand
    assert read(file)["a"].dtype.kind == "U"
    file.write_text("a;b\n1.5;5,5\n2,5;6,25\n")  # one column that is written both ways is text
    assert read(file)["a"].dtype.kind == "U"


def test_words_stay_text_where_no_number_is_asked_for(tmp_path: Path) -> None:
    rows = [f"{n!r},{d!r},{loss!r},{'7B' if i % 2 else '1B'}" for i, (n, d, loss) in enumerate(runs())]
    (tmp_path / "runs.csv").write_text("\n".join(["params,tokens,loss,family", *rows]))
    said = call("fit", tmp_path / "runs.csv", *COLUMNS, *QUICK, "--where", 'family == "7B"')
    assert said["n"] == 20
    assert number("7B") == number("7 * 1e9") == number("7e9") == 7e9
    with pytest.raises(VarioError, match="not a number"):
        number("'seven'")


def test_blank_rows_are_no_rows_and_a_mark_for_nothing_is_named(tmp_path: Path) -> None:
    text = write(tmp_path / "runs.csv", repr).read_text()
    (tmp_path / "blank.csv").write_text(text + "\n\n,,\n")
    assert call("fit", tmp_path / "blank.csv", *COLUMNS, *QUICK)["n"] == 40
    for mark in ("-", "?", "n/a"):
        (tmp_path / "hole.csv").write_text(f"{text}\n1e9,{mark},2.5\n")
        with pytest.raises(VarioError, match=r"row 41, column D \(tokens\): nan.*isfinite\(D\)"):
            call("fit", tmp_path / "hole.csv", *COLUMNS, *QUICK)
        kept = call("fit", tmp_path / "hole.csv", *COLUMNS, *QUICK, "--where", "isfinite(D)")
        assert kept["n"] == 40


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--seed", -1), "--seed -1"),
        (("--lean", "nan"), "--lean nan"),
        (("--lean", 1e9), "--lean 1e\\+09"),
        (("--block", "runs"), "no column 'runs'"),
        (("--out", "nowhere/at/all.json"), "cannot be written"),
        (("--chart", "nowhere/at/all.png"), "cannot be written"),
        (("--columns", "N=params,N=tokens,D=tokens,loss=loss"), "gives N twice"),
    ],
)
def test_an_option_that_cannot_be_is_named(tmp_path: Path, options: tuple[Any, ...], words: str) -> None:
    with pytest.raises(VarioError, match=words):
        call("fit", write(tmp_path / "runs.csv", repr), *COLUMNS, *QUICK, *options)


def test_a_kept_fit_that_was_cut_and_a_budget_that_cannot_be(tmp_path: Path) -> None:
    kept = tmp_path / "fit.json"
    call("fit", write(tmp_path / "runs.csv", repr), *COLUMNS, *QUICK, "-o", kept)
    for budget in (0, -1, "nan", "inf"):
        with pytest.raises(VarioError, match="positive"):
            call("predict", kept, "--compute", budget)
        with pytest.raises(VarioError, match="positive"):
            call("design", kept, "--target", "N=7B,D=140B", "--budget", budget)
    kept.write_text('{"plan": {"law": "two-term"}}')
    with pytest.raises(VarioError, match="cut or changed"):
        call("predict", kept, "--at", "N=7B,D=140B")


@pytest.mark.parametrize("law", ["two-term", "auto"])
def test_answers_do_not_hang_on_units_or_on_the_order_of_rows_and_columns(tmp_path: Path, law: str) -> None:
    rng, said = np.random.default_rng(0), []
    # `auto` also chooses rows by tokens per parameter, which only thousands, millions and billions keep
    last = (1.0, 524288.0, 1.0) if law == "two-term" else (1e9, 1e12, 3.0)
    for units in ((1.0, 1.0, 1.0), (1e6, 1e9, np.log(2)), last):
        rows = np.array(runs(30)) / units
        columns = dict(zip(("params", "tokens", "loss"), rows[rng.permutation(30)].T, strict=True))
        columns["other"] = rng.normal(size=30)
        order = rng.permutation(list(columns))
        text = [",".join(order), *(",".join(repr(float(columns[c][i])) for c in order) for i in range(30))]
        (tmp_path / "runs.csv").write_text("\n".join(text))
        kept = tmp_path / "fit.json"
        fit = call(
            "fit", tmp_path / "runs.csv", *COLUMNS, "--law", law, "--bootstrap", 40, "-o", kept, "--json"
        )
        told = call("predict", kept, "--at", f"N={7e10 / units[0]!r},D={1.4e12 / units[1]!r}", "--json")
        said.append(
            [fit["objective"], fit["parameters"]["alpha"]["value"], fit["n"]]
            + [told[key] * units[2] for key in ("value", "low", "high")]
        )
    for one in said[1:]:
        np.testing.assert_allclose(one, said[0], rtol=2e-3)
        np.testing.assert_allclose(one[:2], said[0][:2], rtol=1e-6)


def test_a_run_that_the_fit_hardly_weighs_narrows_little(tmp_path: Path) -> None:
    """Where small runs weigh little in the fit, one of them narrows less than if it weighed like the rest."""
    table, kept = write(tmp_path / "runs.csv", repr), tmp_path / "fit.json"
    call("fit", table, *COLUMNS, *QUICK[:2], "--bootstrap", 200, "--lean", 0.4, "-o", kept, "--json")
    narrowed = []
    for plan in (load(kept), replace(load(kept), lean=(0.0, 0.0))):
        target = {"N": 7e10, "D": 1.4e12}
        found = next_runs(plan, target, 1e18, runs=1)
        narrowed.append(1 - found[0]["spread_after"] / spread_now(plan, target))
    assert 0 < narrowed[0] < 0.9 * narrowed[1]


def test_an_accuracy_in_percent_is_noticed_and_its_error_fitted(tmp_path: Path) -> None:
    rows = [f"{n!r},{d!r},{100 - 20 * loss:.4f}%" for n, d, loss in runs()]
    (tmp_path / "runs.csv").write_text("\n".join(["params,tokens,right", *rows]))
    rising = call("fit", tmp_path / "runs.csv", "--columns", "N=params,D=tokens,loss=right", *QUICK)
    assert "rising-loss" in {one["id"] for one in rising["warnings"]}
    for error in ("1-right/100", "100 - right"):
        said = call("fit", tmp_path / "runs.csv", "--columns", f"N=params,D=tokens,loss={error}", *QUICK)
        assert "rising-loss" not in {one["id"] for one in said["warnings"]}
        assert said["parameters"]["alpha"]["value"] == pytest.approx(0.35, abs=0.05)


@pytest.mark.parametrize(
    ("header", "told"),
    [
        (["run", "n_params", "tokens", "val_loss"], ["n_params", "tokens", "val_loss"]),
        (
            ["params [M]", "tokens (B)", "val ppl"],
            ["`params [M]`*1e6", "`tokens (B)`*1e9", "log(`val ppl`)"],
        ),
        (
            ["Parameter (Mio.)", "Tokens (Mrd.)", "Verlust"],
            ["`Parameter (Mio.)`*1e6", "`Tokens (Mrd.)`*1e9", "Verlust"],
        ),
        (["size", "samples_M", "acc"], ["size", "samples_M*1e6", "1-acc"]),
        (["model_size_b", "seen_tokens_m"], ["model_size_b*1e9", "seen_tokens_m*1e6", ""]),
        (["params", "train_loss", "val_loss"], ["params", "", "val_loss"]),
        (
            ["params_M", "flops", "bits_per_token"],
            ["params_M*1e6", "flops/6/(params_M*1e6)", "bits_per_token"],
        ),
        (["Compute [PF-days]", "tokens"], ["`Compute [PF-days]`*8.64e+19/6/(tokens)", "tokens", ""]),
        (["what", "ever"], ["", "", ""]),
    ],
)
def test_a_header_is_read_for_what_to_write(header: list[str], told: list[str]) -> None:
    columns = {name: np.array([0.5, 0.7]) for name in header}
    assert [guess(name, columns) for name in ("N", "D", "loss")] == told


def test_an_accuracy_in_percent_is_guessed_as_one() -> None:
    assert guess("loss", {"top-1 acc": np.array(["31.2 %", "45 %"])}) == "100-`top-1 acc`"
    assert guess("loss", {"acc": np.array([31.2, 45.0])}) == "100-acc"


def test_names_of_settings_are_not_guessed_for_sizes() -> None:
    words, sizes = np.array(["c4", "pile"]), np.array([1e9, 2e9])
    columns = {"dataset": words, "hparams": words, "params": sizes, "tokens": np.array(["20B", "40B"])}
    assert [guess(name, columns) for name in ("N", "D")] == ["params", "tokens"]
    assert guess("D", {"params": sizes, "chars": sizes}) == "chars"
    assert guess("D", {"dataset": words, "params": sizes}) == "dataset"  # and the error names its first cell


def test_a_missing_column_comes_with_the_option_to_type(tmp_path: Path) -> None:
    file = write(tmp_path / "runs.csv", thousands, separator="\t")
    with pytest.raises(VarioError, match="no column N, D;.*Perhaps: --columns 'N=params,D=tokens'"):
        call("fit", str(file), *QUICK)
    with pytest.raises(VarioError, match="names x; two-term takes N, D, loss.*--law power-floor, power"):
        call("fit", str(file), "--columns", "x=params,loss=loss")
