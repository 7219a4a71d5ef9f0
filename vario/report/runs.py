"""The list of runs, for the terminal and for other programs."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from vario.record.runs import RunSummary
from vario.report.words import clean, duration

__all__ = ["runs_rows", "runs_text"]


def runs_text(runs: Sequence[RunSummary]) -> str:
    """One line per run, in the order given: id, status, steps, age, command."""
    if not runs:
        return "no runs yet: `vario run train.py` makes the first one"
    wide = max(len(run.id) for run in runs)
    rows = [f"{'run':<{wide}}  {'status':<9} {'steps':>9}  {'age':>12}  command"]
    for run in runs:
        told = f"cannot be read: {run.problem}" if run.problem else run.command
        age = duration(max(time.time() - run.created, 0.0)) if run.created else ""
        rows.append(
            f"{clean(run.id):<{wide}}  {run.status:<9} {run.steps:>9,}  {age:>12}  {clean(told)}".rstrip()
        )
    return "\n".join(rows)


def runs_rows(runs: Sequence[RunSummary]) -> list[dict[str, Any]]:
    """The same as plain dicts; ``problem`` only where a run could not be read."""
    return [
        {
            "id": run.id,
            "path": str(run.path),
            "created": run.created,
            "status": run.status,
            "steps": run.steps,
            "command": run.command,
            **({"problem": run.problem} if run.problem else {}),
        }
        for run in runs
    ]
