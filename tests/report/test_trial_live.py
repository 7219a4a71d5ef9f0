"""Test what is said while a trial runs: lines for files, a table for terminals."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path

import pytest

from tests.trials.simulated import Simulated, simulate
from vario.report.trial_live import _table, watching
from vario.trials.pairs import Job
from vario.trials.runner import Outcome
from vario.trials.trial import Progress


def value(arm: str, seed: int) -> float | str:
    if (arm, seed) == ("AdamW", 1):
        return "exit code 1: boom"
    return float(seed + (-5 if arm == "AdamW" else 0) + 0.1 * (seed % 3) * (arm == "AdamW"))


def test_lines_for_what_is_no_terminal(tmp_path: Path) -> None:
    out = io.StringIO()
    with watching(out) as tell:
        simulate(value, tmp_path, seeds=12, tell=tell)
    lines = out.getvalue().splitlines()
    assert "vario: seed 0  baseline: done (1 s)" in lines
    assert "vario: seed 1  AdamW: exit code 1: boom (1 s)" in lines
    pairs = [line for line in lines if " of at most 12 " in line]
    assert pairs[0].startswith("vario: pair 1 of at most 12  AdamW: -5 (interval still open)")


def test_no_verdict_is_told_before_the_last_pair_where_it_is_judged_once(tmp_path: Path) -> None:
    out = io.StringIO()
    with watching(out) as tell:
        runner = Simulated(lambda arm, seed: value(arm, seed + 2), jobs=1)
        made = simulate(runner.value, tmp_path, runner=runner, seeds=4, tell=tell)
    said = [line for line in out.getvalue().splitlines() if "of at most 4" in line]
    assert len(said) == 4 and made[0].verdict == "helps"
    assert all(line.endswith("judged after the last pair") for line in said[:3]) and said[3].endswith("helps")


def test_a_table_for_a_terminal(tmp_path: Path) -> None:
    rich = pytest.importorskip("rich.console")
    seen: list[Progress] = []
    simulate(value, tmp_path, seeds=12, tell=seen.append)
    console = rich.Console(file=io.StringIO(), width=120, record=True)
    console.print(_table(next(p for p in reversed(seen) if p.verdicts), 12.0))
    text = console.export_text()
    assert "AdamW" in text and "difference in loss" in text and "|" in text and "1 failed" in text


def test_a_run_that_was_made_before_is_said_to_be(tmp_path: Path) -> None:
    progress = Progress(
        tmp_path, "pairs", (), 0, 3, (), 1, 1, 0, None, last=Outcome(Job("a", 0, ()), None, 2.0)
    )
    out = io.StringIO()
    with watching(out) as tell:
        tell(progress)
        tell(dataclasses.replace(progress, done=2))
    assert out.getvalue().splitlines() == [
        "vario: seed 0  a: done (2 s), made before",
        "vario: seed 0  a: done (2 s)",
    ]
