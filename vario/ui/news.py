"""What is new, as server-sent events: small, at most two a second, and only where something changed.

The page asks for what it shows; an event only says that asking is worth while. So nothing is lost when
a connection breaks: the next one begins with the present state.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import anyio
from anyio import to_thread

from vario.nouns import VarioError
from vario.record.schema import FILE_NAME, open_for_reading
from vario.ui.diagnoses import Diagnoses
from vario.ui.shelf import Shelf, stamp
from vario.ui.trials import trial_marks

__all__ = ["Pulse", "events"]

EVERY = 0.5  # seconds between two looks
HEARTBEAT = 10.0
LIST_EVERY = 2.0
STATUS_EVERY = 2.0  # a killed process writes nothing: it must be looked for


@dataclass(frozen=True)
class Change:
    """What an event says of a run."""

    run: str
    steps: int
    last_step: int
    findings_version: int
    status: str


class Pulse:
    """Looks at one record cheaply: a connection of its own, no open transaction between two looks."""

    def __init__(self, path: Path) -> None:
        self._file = path / FILE_NAME
        self._connection: sqlite3.Connection | None = None
        self._inode = 0
        self._version = -1
        self._steps = 0

    def steps(self) -> int:
        """Steps of the longest stream; 0 where the record is gone or cannot be read."""
        try:
            inode = self._file.stat().st_ino
            if inode != self._inode:
                self.close()
            if self._connection is None:
                self._connection, self._inode = open_for_reading(self._file), inode
            (version,) = self._connection.execute("pragma data_version").fetchone()
            if version != self._version:
                self._version = version
                (last,) = self._connection.execute("select max(last_step) from stream").fetchone()
                self._steps = (-1 if last is None else int(last)) + 1
        except (OSError, VarioError, sqlite3.Error):
            self.close()
            return 0
        return self._steps

    def close(self) -> None:
        """Lets go of the file."""
        if self._connection is not None:
            self._connection.close()
        self._connection, self._version, self._steps = None, -1, 0


async def events(
    shelf: Shelf, diagnoses: Diagnoses, id: str, ended: Callable[[], bool]
) -> AsyncIterator[bytes]:
    """Until the page goes away or the server ends: `change` of the run `id` ("" for none) and `runs`."""
    pulse = Pulse(shelf.home / id) if id else None
    watched = _Watched(shelf, diagnoses, id, pulse)
    told: tuple[Change | None, tuple[object, ...] | None] = (None, None)
    spoke = time.monotonic()
    yield b"retry: 1000\n\n"
    try:
        while not ended():
            now = await to_thread.run_sync(watched.look)
            lines = b""
            if now[0] != told[0] and now[0] is not None:
                lines += _event("change", asdict(now[0]))
            if now[1] != told[1]:
                lines += _event("runs", {"runs": len(now[1] or ())}) if told[1] is not None else b""
            told = now
            if not lines and time.monotonic() - spoke >= HEARTBEAT:
                lines = b": still here\n\n"
            if lines:
                spoke = time.monotonic()
                yield lines
            await anyio.sleep(EVERY)
    finally:
        if pulse is not None:
            pulse.close()


class _Watched:
    """The state of the run and of the list, each looked at as often as it may change."""

    def __init__(self, shelf: Shelf, diagnoses: Diagnoses, id: str, pulse: Pulse | None) -> None:
        self.shelf, self.diagnoses, self.id, self.pulse = shelf, diagnoses, id, pulse
        self.status, self.status_at, self.steps = "", float("-inf"), -1
        self.list: tuple[object, ...] = ()
        self.list_at = float("-inf")

    def look(self) -> tuple[Change | None, tuple[object, ...]]:
        if time.monotonic() - self.list_at >= LIST_EVERY:
            self.list, self.list_at = self._listed(), time.monotonic()
        return (self._change() if self.pulse is not None else None), self.list

    def _change(self) -> Change:
        assert self.pulse is not None
        path = self.shelf.home / self.id
        steps = self.pulse.steps()
        if time.monotonic() - self.status_at >= STATUS_EVERY:
            self.status, self.status_at = self.shelf.status(self.id), time.monotonic()
        if self.status != "gone":
            self.diagnoses.known(path, self.status, first=True)
        return Change(self.id, steps, steps - 1, self.diagnoses.version(path), self.status)

    def _listed(self) -> tuple[object, ...]:
        """What the list shows, as far as it can change without a look into a record that lies still."""
        rows = []
        for name in self.shelf.ids():
            path = self.shelf.home / name
            rows.append((name, stamp(path), self.shelf.status(name), self.diagnoses.version(path)))
        return (*rows, *trial_marks(self.shelf.home))


def _event(name: str, data: dict[str, object]) -> bytes:
    return f"event: {name}\ndata: {json.dumps(data)}\n\n".encode()
