"""The list of runs: one line each, problems named, the same in JSON."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path

from vario.record.runs import RunSummary
from vario.report.runs import runs_rows, runs_text

GOOD = RunSummary("20260101-heron", Path("a"), time.time() - 7200, "finished", "train.py --lr 1", 12345)
BAD = RunSummary("20260102-wren", Path("b"), 0.0, "", "", 0, problem="it is damaged\x1b[31m")


def test_each_run_is_one_line_and_a_broken_one_says_why() -> None:
    just_made = replace(GOOD, created=time.time() - 7200)  # this module may have been imported minutes ago
    head, good, bad = runs_text([just_made, BAD]).splitlines()
    assert head.split() == ["run", "status", "steps", "age", "command"]
    assert good.split(maxsplit=5) == ["20260101-heron", "finished", "12,345", "2", "h", "train.py --lr 1"]
    assert bad.startswith("20260102-wren") and "cannot be read: it is damaged [31m" in bad
    assert "vario run train.py" in runs_text([])


def test_rows_are_plain_and_name_a_problem_only_where_there_is_one() -> None:
    good, bad = json.loads(json.dumps(runs_rows([GOOD, BAD])))
    assert good["id"] == "20260101-heron" and good["steps"] == 12345 and "problem" not in good
    assert bad["problem"].startswith("it is damaged")
