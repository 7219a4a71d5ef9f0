"""Trials of a home as the page shows them: verdicts, every pair, and the curves behind them."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from vario.nouns import VarioError
from vario.record import open_run
from vario.record.schema import FILE_NAME
from vario.report.trial_json import trial_dict
from vario.trials.result import FILE, Arms, Trial, open_trial
from vario.ui.shelf import Gone

__all__ = ["trial_marks", "trial_told", "trials_told"]

LISTED = 200  # the newest


def trial_ids(home: Path) -> list[str]:
    """The trials under `home`, newest first."""
    try:
        found = [path for path in (home / "trials").iterdir() if not path.name.startswith(".")]
    except OSError:
        return []
    known = [path.name for path in found if (path / FILE).is_file() or (path / FILE_NAME).is_file()]
    return sorted(known, reverse=True)


def trials_told(home: Path) -> list[dict[str, Any]]:
    """What the list says of each trial; one that cannot be read says why."""
    rows: list[dict[str, Any]] = []
    for name in trial_ids(home)[:LISTED]:
        try:
            told = trial_told(home, name)
        except VarioError as error:
            rows.append({"id": name, "status": "corrupt", "command": "", "verdicts": [], "error": str(error)})
            continue
        kept = ("id", "status", "command", "started", "metric", "pairs", "seeds", "runs_done", "seconds")
        short = {key: told.get(key) for key in kept}
        rows.append({**short, "verdicts": [_short(row) for row in told["verdicts"]], "error": None})
    return rows


def trial_marks(home: Path) -> tuple[object, ...]:
    """Changes whenever a trial begins, ends a run, or ends."""
    return tuple((name, _marks(home / "trials" / name)) for name in trial_ids(home)[:LISTED])


def trial_told(home: Path, id: str) -> dict[str, Any]:
    """The answer to /api/trial/ID; raises Gone where there is no such trial."""
    if id not in trial_ids(home):
        raise Gone(f"there is no trial {id[:80]!r} in {home / 'trials'}. Choose another.")
    path = home / "trials" / id
    return _told(path, _marks(path)) if (path / FILE).is_file() else _under_way(path)


@lru_cache(maxsize=LISTED)
def _told(path: Path, marks: tuple[int, ...]) -> dict[str, Any]:
    """Of a trial that ended; kept, since every list asks for it."""
    begun = _begun(path)
    try:
        trial = open_trial(path)
    except AttributeError as error:
        raise VarioError(f"the trial {path / FILE} cannot be read: {error}.") from error
    return {
        **begun,
        **trial_dict(trial),
        "status": "finished" if trial.finished else "stopped",
        "finished": True,
        "command": shlex.join(trial.command),
        "seconds": _number(trial.seconds),
        "peeking": trial.peeking,
        "margin": None if trial.margin is None else _number(trial.margin),
        "arms": [_arm(trial, arm) for arm in trial.arms],
    }


def _under_way(path: Path) -> dict[str, Any]:
    begun = _begun(path)
    return {
        **begun,
        "finished": begun["status"] != "running",
        "verdicts": [],
        "arms": [_named(name) for name in begun["order"]],
    }


def _marks(path: Path) -> tuple[int, ...]:
    marks = []
    for name in (FILE, FILE_NAME, "runs"):
        try:
            marks.append((path / name).stat().st_mtime_ns)
        except OSError:
            marks.append(0)
    return tuple(marks)


def _begun(path: Path) -> dict[str, Any]:
    """What is known of a trial from its beginning on."""
    told: dict[str, Any] = {"id": path.name, "started": None, "status": "killed", "command": "", "order": []}
    done = [run for run in (path / "runs").iterdir() if run.is_dir()] if (path / "runs").is_dir() else []
    told["runs_done"] = len(done)
    if not (path / FILE_NAME).is_file():
        return told
    with open_run(path) as run:
        command = run.meta.get("command") or ()
        words = command.split() if isinstance(command, str) else [str(word) for word in command]
        return told | {
            "started": _number(run.meta.get("created")),
            "status": "running" if run.status == "running" else "killed",
            "command": shlex.join(words[2:] if words[:2] == ["vario", "trial"] else words),
            "order": [str(name) for name in run.meta.get("trial") or ()],
        }


def _arm(trial: Trial, arm: Arms) -> dict[str, Any]:
    """An arm with its value on every seed, its curves, and its difference to the baseline over training."""
    return {
        "name": arm.name,
        "role": arm.role,
        "note": arm.note,
        "reason": arm.reason,
        "variance_removed": _number(arm.variance_removed),
        "start_seconds": _number(arm.start_seconds),
        "warmup_seconds": _number(arm.warmup_seconds),
        "step_seconds": _number(arm.step_seconds),
        "memory_bytes": _number(arm.memory_bytes),
        "findings": dict(arm.findings),
        "examined": arm.examined,
        "values": {seed: _number(value) for seed, value in arm.values.items()},
        "curves": {seed: _rows(line) for seed, line in arm.curves.items()},
        "difference": _rows(arm.difference),
    }


def _named(name: str) -> dict[str, Any]:
    role = "baseline" if name == "baseline" else "treatment"
    return {"name": name, "role": role, "values": {}, "curves": {}, "difference": []}


def _short(verdict: Mapping[str, Any]) -> dict[str, Any]:
    return {key: verdict[key] for key in ("treatment", "verdict", "difference", "p", "pairs")}


def _rows(rows: Sequence[Sequence[float]]) -> list[list[float | None]]:
    return [[_number(value) for value in row] for row in rows]


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None
