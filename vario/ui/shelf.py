"""The runs of one directory, held open while somebody looks at them, and the list of all.

A run is opened when it is first asked for and let go when others are, when its record was deleted or
replaced, or when the dashboard ends; never while an answer is made of it. What a directory says about
itself in the list is kept until its record changes.
"""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vario.nouns import VarioError
from vario.record import Run, open_run
from vario.record.schema import FILE_NAME
from vario.report import facts

__all__ = ["Asked", "Gone", "Shelf", "at_rest", "stamp"]

RECENT = 1.0  # seconds for which the row of a run in flight is kept
OPEN = 4  # runs that stay open: a comparison of a few, and the one looked at before
BUDGET = 20 << 20  # bytes of points that each of them keeps; more is read again, in milliseconds
SPARK = 40
QUIET = 2_000_000_000  # nanoseconds; clocks of file systems tick in hundredths of a second
Stamp = tuple[int, ...]


class Gone(VarioError):
    """A run that is not there, or no longer."""


class Asked(VarioError):
    """A question that cannot be answered as it was put."""


@dataclass
class _Opened:
    run: Run
    file: tuple[int, int]  # the device and inode that were opened
    users: int = 0
    dropped: bool = False


@dataclass(frozen=True)
class _Row:
    stamp: Stamp
    told: dict[str, Any]
    at: float


class Shelf:
    """Runs of `home` by id, shared between threads."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self._lock = threading.Lock()
        self._opened: OrderedDict[str, _Opened] = OrderedDict()
        self._rows: dict[str, _Row] = {}

    def ids(self) -> list[str]:
        """Directories of `home` that hold a record, newest first."""
        try:
            found = [path for path in self.home.iterdir() if not path.name.startswith(".")]
        except OSError:
            return []
        made = [(_made(path), path.name) for path in found if (path / FILE_NAME).exists()]
        return [name for _, name in sorted(made, reverse=True)]

    def path(self, id: str) -> Path:
        """The directory of a run; raises Gone where there is no such run."""
        plain = id and id not in (".", "..") and "/" not in id and "\\" not in id and "\0" not in id
        path = self.home / id
        if not plain or not (path / FILE_NAME).is_file():
            raise Gone(
                f"there is no run {id[:80]!r} in {self.home}; it may have been deleted. Choose another."
            )
        return path

    @contextmanager
    def reading(self, id: str) -> Iterator[Run]:
        """The run, open until the block ends; raises Gone, or VarioError where it cannot be read."""
        opened = self._take(id, self.path(id))
        try:
            yield opened.run
        finally:
            with self._lock:
                opened.users -= 1
                if opened.dropped and not opened.users:
                    opened.run.close()

    def rows(self) -> list[dict[str, Any]]:
        """What the list says of each run, newest first; one that cannot be read says why."""
        ids = self.ids()
        for name in set(self._rows) - set(ids):
            self._rows.pop(name, None)
        return [self.row(name) for name in ids]

    def row(self, id: str) -> dict[str, Any]:
        """What the list says of one run."""
        path = self.home / id
        now = stamp(path)
        kept = self._rows.get(id)
        if (
            kept and kept.told["status"] == "running"
        ):  # also a record that lies still may have lost its writer
            fresh = time.monotonic() - kept.at < RECENT
        else:
            fresh = kept is not None and kept.stamp == now
        if kept is None or not fresh:
            kept = self._rows[id] = _Row(now, self._told(path), time.monotonic())
        return dict(kept.told)

    def _told(self, path: Path) -> dict[str, Any]:
        """What the list says; of a run that is open anyway, with what is known of it already."""
        try:
            with self.reading(path.name) if path.name in self._opened else open_run(path) as run:
                return {**_row_of(run), "id": path.name}
        except VarioError as error:
            return {**_EMPTY, "id": path.name, "error": str(error)}

    def status(self, id: str) -> str:
        """running, finished, failed, killed, corrupt, or gone where the run was deleted."""
        try:
            self.path(id)
        except Gone:
            return "gone"
        return str(self.row(id)["status"])

    def close(self) -> None:
        """Lets go of every run that nobody is reading."""
        with self._lock:
            for name in list(self._opened):
                self._drop(name)

    def _take(self, id: str, path: Path) -> _Opened:
        try:
            found = (path / FILE_NAME).stat()
        except OSError as error:
            raise Gone(f"the run {id!r} was deleted a moment ago. Choose another.") from error
        file = found.st_dev, found.st_ino
        with self._lock:
            if id in self._opened and self._opened[id].file != file:
                self._drop(id)
            if id not in self._opened:
                self._opened[id] = _Opened(open_run(path, budget=BUDGET), file)
                while len(self._opened) > OPEN:
                    self._drop(next(iter(self._opened)))
            self._opened.move_to_end(id)
            self._opened[id].users += 1
            return self._opened[id]

    def _drop(self, id: str) -> None:
        opened = self._opened.pop(id)
        opened.dropped = True
        if not opened.users:
            opened.run.close()


def stamp(path: Path) -> Stamp:
    """Changes whenever the record of the directory `path` has been written to; empty without one."""
    parts: list[int] = []
    for name in (FILE_NAME, f"{FILE_NAME}-wal"):
        try:
            found = (path / name).stat()
        except OSError:
            continue
        parts += [found.st_ino, found.st_size, found.st_mtime_ns]
    return tuple(parts)


def at_rest(state: Stamp) -> bool:
    """Whether the record with this stamp was last written a while ago: what writes now has another stamp."""
    return bool(state) and time.time_ns() - max(state[2::3]) > QUIET


def _made(path: Path) -> tuple[str, float]:
    """Ids that begin with their moment sort by it; others by the age of their record, after those."""
    if path.name[:8].isdigit():
        return path.name[:15], 0.0
    try:
        return "", (path / FILE_NAME).stat().st_mtime
    except OSError:
        return "", 0.0


_EMPTY: dict[str, Any] = {
    "id": "", "command": "", "started": None, "status": "corrupt", "steps": 0, "duration_s": None,
    "loss_last": None, "spark": [], "error": None,
}  # fmt: skip


def _row_of(run: Run) -> dict[str, Any]:
    return {
        **_EMPTY,
        "command": facts.command_line(run),
        "started": _number(run.meta.get("created")),
        "duration_s": _number(facts.wall_seconds(run)),
        "steps": facts.steps_seen(run),
        "status": run.status,
        "ended": facts.ending(run),
        **_loss(run),
    }


def _loss(run: Run) -> dict[str, Any]:
    if not run.records():
        return {}
    record = run.main
    _, _, mean, _ = record.overview("loss/train", bins=SPARK)
    return {"spark": [_number(value) for value in mean], "loss_last": _number(record.last("loss/train"))}


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None
