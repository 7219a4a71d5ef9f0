"""``vario measure``: a script started under watch with more to measure, and what came of it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vario.nouns import VarioError
from vario.running import overhead_share, run

__all__ = ["in_run"]

FAMILIES = ("curvature/", "tangent/", "spectrum/", "rank/")


def in_run(
    command: Sequence[str],
    what: Sequence[str],
    *,
    steps: Sequence[int] = (),
    share: str = "",
    home: Path | None = None,
) -> dict[str, Any]:
    """Run the command to its end, measuring ``what`` at these steps (or for a share of its time)."""
    from vario.on_demand import ASK, FIRST_STEPS, Asked

    part = overhead_share(share) if share else 0.0
    asked = Asked(tuple(what), tuple(steps) or (() if part else FIRST_STEPS), part)
    asked.instruments()  # a name that is not known is said before anything is started
    before = os.environ.get(ASK)
    os.environ[ASK] = asked.as_text()
    try:
        code, directory = _watched(command, home)
    finally:
        os.environ.pop(ASK)
        if before is not None:
            os.environ[ASK] = before
    found = _what_was_measured(directory)
    found["code"] = code
    if not found["rows"] and not found["refused"]:
        found["notes"] = [f"nothing was measured: the run took no optimizer step of {list(asked.steps)[:6]}."]
    return found


def _watched(command: Sequence[str], home: Path | None) -> tuple[int, Path]:
    """Exit code and directory of one run under watch."""
    from vario.record.runs import home as default_home
    from vario.record.runs import list_runs

    place = home or default_home()
    before = {found.path for found in list_runs(place)}
    code = run(command, home=place, quiet=True)
    new = [found.path for found in list_runs(place) if found.path not in before]
    if not new:
        raise VarioError(f"no record of the run was made in {place}; can it be written?")
    return code, Path(new[-1])


def _what_was_measured(directory: Path) -> dict[str, Any]:
    from vario.record.reader import open_run

    rows: list[dict[str, Any]] = []
    refused: list[dict[str, Any]] = []
    with open_run(directory) as opened:
        for record in opened.records():
            for name in sorted(record.names()):
                if not name.startswith(FAMILIES) or name.endswith(("_low", "_high")):
                    continue
                for where in record.wheres(name):
                    rows += _rows(record, name, where)
            for event in record.events("refused"):
                refused.append({"need": event.where, "reason": event.data["reason"], "step": event.step})
    rows.sort(key=lambda row: (row["step"], row["where"] != ""))
    return {"run": directory.name, "title": f"measured in {directory.name}", "rows": rows, "refused": refused}


def _rows(record: Any, name: str, where: str) -> list[dict[str, Any]]:
    steps, values = record.series(name, where)
    ends = {}
    for end in ("low", "high"):
        at, found = record.series(f"{name}_{end}", where)
        ends[end] = dict(zip(at.tolist(), found.tolist(), strict=True))
    return [
        {
            "series": name,
            "where": where,
            "step": int(step),
            "value": value,
            "low": ends["low"].get(step, value if step in ends["high"] else None),
            "high": ends["high"].get(step, value if step in ends["low"] else None),
        }
        for step, value in zip(steps.tolist(), np.asarray(values).tolist(), strict=True)
    ]
