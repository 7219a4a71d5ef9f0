"""The list of runs that are done, so that none is made twice: not after a kill, not by the next trial.

Two runs are the same if the script, the local files that it imports, its arguments, the treatment with its
seed, and the versions of Python and torch are the same. What the script reads from elsewhere (its data) is
not looked at: `--fresh` makes all runs anew.
"""

from __future__ import annotations

import ast
import hashlib
import json
import math
import os
import sys
from collections.abc import Iterable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from vario.trials.pairs import Job
from vario.trials.runner import Outcome

__all__ = ["Ledger", "fingerprint", "key_of"]

ENOUGH = 0.98  # of the limit of minutes: clocks are read twice
MOST_FILES = 500  # of the script's own folder; a larger project is told apart by these


def fingerprint(command: Sequence[str], cwd: Path | None = None) -> str:
    """Of the command, of the Python files in it with what they import from beside them, and of versions."""
    place = cwd or Path.cwd()
    digest = hashlib.sha256()
    for part in command:
        digest.update(part.encode() + b"\0")
    for path in _sources(command, place):
        digest.update(path.read_bytes() + b"\0")
    digest.update(f"{sys.version} {_torch()}".encode())
    return digest.hexdigest()[:32]


def key_of(base: str, treatment: str, metrics: Iterable[tuple[str, str]]) -> str:
    """The key of one run of the command with this fingerprint."""
    text = json.dumps([base, treatment, sorted(metrics)])
    return hashlib.sha256(text.encode()).hexdigest()[:32]


class Ledger:
    """A file of one line per finished run; what was written last of a run stands."""

    def __init__(
        self, path: Path, *, fresh: bool = False, retry_failed: bool = False, minutes: float = math.inf
    ) -> None:
        self._path, self._minutes = path, minutes
        self._retry = retry_failed
        self._said = False
        self._done: dict[str, Outcome] = {} if fresh else dict(self._read())

    def get(self, job: Job) -> Outcome | None:
        """What became of this run, None where it was never finished or its record is gone."""
        known = self._done.get(job.key)
        if known is None or (known.reason and self._retry):
            return None
        if known.stopped and known.seconds < 60 * self._minutes * ENOUGH:
            return None  # it was ended at a shorter limit than the one of now
        if known.path is not None and not known.path.exists():
            return None
        return Outcome(job, known.path, known.seconds, known.reason, known.stopped, known.peak_bytes)

    def put(self, outcome: Outcome) -> None:
        """Adds a run that has ended, well or badly."""
        self._done[outcome.job.key] = outcome
        row: dict[str, Any] = {
            "key": outcome.job.key,
            "arm": outcome.job.arm,
            "seed": outcome.job.seed,
            "path": None if outcome.path is None else os.path.relpath(outcome.path, self._path.parent),
            "seconds": outcome.seconds,
            "reason": outcome.reason,
            "stopped": outcome.stopped,
            "peak_bytes": outcome.peak_bytes,
        }
        try:
            self._append(json.dumps(row).encode() + b"\n")
        except OSError as error:
            if not self._said:
                text = f"vario: {self._path}: {error.strerror}; what is run now will be run again\n"
                os.write(2, text.encode())
            self._said = True

    def _append(self, line: bytes) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with open(self._path, "ab+") as file:  # one short append: trials side by side do not mix lines
            file.seek(max(0, file.seek(0, os.SEEK_END) - 1))
            whole = file.read(1) in (b"", b"\n")
            file.write((b"" if whole else b"\n") + line)

    def _read(self) -> Iterable[tuple[str, Outcome]]:
        try:
            lines = self._path.read_bytes().splitlines()
        except FileNotFoundError:
            return
        for line in lines:
            try:
                row = json.loads(line)
                job = Job(row["arm"], row["seed"], (), key=row["key"])
                path = None if row["path"] is None else self._path.parent / row["path"]
            except (ValueError, KeyError, TypeError):  # a line cut short by a full disk
                continue
            yield (
                row["key"],
                Outcome(job, path, row["seconds"], row["reason"], row["stopped"], row["peak_bytes"]),
            )


def _sources(command: Sequence[str], place: Path) -> list[Path]:
    """Python files of the command, and those that they import from beside the script or the directory."""
    found: dict[Path, None] = {}
    waiting = [place / part for part in command if part.endswith(".py") and (place / part).is_file()]
    for at, part in enumerate(command[:-1]):
        if part == "-m":
            waiting += _named(command[at + 1], [place])
    roots = [place, *(path.parent for path in waiting)]
    while waiting and len(found) < MOST_FILES:
        path = waiting.pop().resolve()
        if path in found:
            continue
        found[path] = None
        try:
            tree = ast.parse(path.read_bytes())
        except SyntaxError:
            continue
        for name in _imports(tree):
            waiting += _named(name, [*roots, path.parent])
    return sorted(found)


def _imports(tree: ast.Module) -> Iterable[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            yield from ([base] if base else [])
            yield from (f"{base}.{alias.name}".lstrip(".") for alias in node.names)


def _named(module: str, roots: Sequence[Path]) -> list[Path]:
    """The files of a module that lies under one of the roots; none for an installed one."""
    parts = module.split(".")
    found = []
    for root in dict.fromkeys(roots):
        for depth in range(1, len(parts) + 1):
            base = root.joinpath(*parts[:depth])
            found += [path for path in (base.with_suffix(".py"), base / "__init__.py") if path.is_file()]
    return found


def _torch() -> str:
    try:
        return version("torch")
    except PackageNotFoundError:
        return ""
