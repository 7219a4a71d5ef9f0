"""A run opened for reading, also while it is still being written."""

from __future__ import annotations

import json
import re
import sqlite3
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from vario.nouns import VarioError
from vario.record import packing, schema
from vario.record.loading import BUDGET, Loading, Piece, empty
from vario.record.processes import Process, is_alive
from vario.record.stream import Event, Record, Steps, Values

__all__ = ["Event", "Record", "Run", "Status", "StoredArrays", "open_run"]

Status = Literal["running", "finished", "failed", "killed"]
T = TypeVar("T")


def open_run(path: Path | str, *, budget: int = BUDGET) -> Run:
    """The run in the directory `path` (or whose `record.sqlite` is `path`).

    `budget` bounds, in bytes, the points that are kept for the next who asks for them.
    Raises VarioError where there is none, or where the file is damaged, foreign or of a newer vario.
    """
    path = Path(path)
    return Run(path.parent if path.name == schema.FILE_NAME else path, budget)


@dataclass(frozen=True, slots=True)
class StoredArrays:
    """Large arrays that were stored beside the record at one step."""

    name: str
    stream: str
    step: int
    path: Path

    def load(self) -> dict[str, NDArray[Any]]:
        """The arrays by name; raises VarioError where the file is missing or damaged."""
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        try:
            return load_file(self.path)
        except (OSError, SafetensorError) as error:
            raise VarioError(f"the arrays {self.path} cannot be read: {error}. They are lost.") from error


class Run:
    """A run of one command: its streams, events and meta. Holds the file open until `close`."""

    def __init__(self, path: Path, budget: int = BUDGET) -> None:
        self.path = path
        self.id = path.resolve().name
        self._source = _File(path / schema.FILE_NAME, budget)

    @property
    def meta(self) -> Mapping[str, Any]:
        """Facts about the run: command, versions, seeds, hardware."""
        return self._source.meta()

    @property
    def status(self) -> Status:
        """What became of the run.

        Running while a process that wrote to it lives and has not written its `exit` event. Then the
        worst of the exit events decides: a signal is "killed", an error or a code other than 0 "failed".
        A process that died without a word counts as killed, unless another one reported an exit after
        its last flush: a launcher, which waits for its children and knows better.
        """
        return self._source.status()

    def records(self) -> list[Record]:
        """One Record per stream, in alphabetical order, net#2 before net#10."""
        return [self._source.record(name) for name in self._source.streams()]

    @property
    def main(self) -> Record:
        """The stream that a report is about when none is named.

        Rank 0 before the others; then most steps, then most series; then the longest name and the
        alphabet, so that the choice never changes.
        """
        records = self.records()
        if not records:
            raise VarioError(
                f"the run {self.id} holds no training step ({self.status}). Its script may have ended before "
                "the first optimizer step, or may not train with torch."
            )
        return min(
            records,
            key=lambda r: (
                "@" in r.stream,
                -r.step_count,
                -self._source.breadth(r.stream),
                -len(r.stream),
                r.stream,
            ),
        )

    def events(self, kind: str | None = None) -> list[Event]:
        """Events of every stream, in the order of writing."""
        return [event for event in self._source.events() if kind in (None, event.kind)]

    def arrays(self, name: str | None = None) -> list[StoredArrays]:
        """Large arrays stored beside the record, in the order of writing."""
        return [stored for stored in self._source.arrays() if name in (None, stored.name)]

    def still(self) -> AbstractContextManager[None]:
        """While the block lasts, the record is seen as it was at its beginning, and read faster.

        Nothing else can read this Run meanwhile; a writer goes on.
        """
        return self._source.still()

    @property
    def damage(self) -> tuple[str, ...]:
        """What was found damaged, and is therefore missing, in all that has been read so far."""
        return tuple(self._source.damage)

    @property
    def last_written(self) -> float:
        """Time of the last flush in seconds since 1970; 0 where nothing was written."""
        return self._source.last_written()

    def close(self) -> None:
        """Lets go of the file."""
        self._source.close()

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Run({self.id!r}, {self.status}, streams {', '.join(self._source.streams()) or 'none'})"


class _File:
    """The record as a source of points. Answers are kept until another process commits something."""

    def __init__(self, path: Path, budget: int) -> None:
        self._path = path
        self._lock = threading.RLock()
        self.damage: list[str] = []
        self._connection = schema.open_for_reading(path)
        self._kept: dict[Any, Any] = {}
        self._kept_version = -1
        self._reader = 0  # the thread that reads at this moment
        self._loading = Loading(self._connection, self._report, budget)
        self._records: dict[str, Record] = {}
        with self._reading():
            pass

    def record(self, stream: str) -> Record:
        return self._records.setdefault(stream, Record(self, stream))

    def meta(self) -> Mapping[str, Any]:
        return self._keep(
            "meta", lambda: {k: json.loads(v) for k, v in self._rows("select key, value from meta")}
        )

    def streams(self) -> list[str]:
        return self._keep("streams", lambda: sorted(self._steps_of(), key=_by_number))

    def step_count(self, stream: str) -> int:
        return self._keep("steps", self._steps_of).get(stream, -1) + 1

    def width(self, stream: str, name: str, where: str) -> int:
        return self._series().get((stream, name, where), (0, 0))[1]

    def breadth(self, stream: str) -> int:
        return sum(map(len, self.index(stream).values()))

    def index(self, stream: str) -> Mapping[str, list[str]]:
        return self._keep("indices", self._indices).get(stream, {})

    def _indices(self) -> dict[str, dict[str, list[str]]]:
        found: dict[str, dict[str, list[str]]] = {}
        for of, name, place in self._series():
            found.setdefault(of, {}).setdefault(name, []).append(place)
        return found

    def events(self) -> list[Event]:
        return self._keep("events", lambda: [event for _, event in self._events_by_process()])

    def arrays(self) -> list[StoredArrays]:
        query = "select name, stream, step, file from array order by id"
        folder = self._path.parent / "arrays"
        return [StoredArrays(n, of, step, folder / file) for n, of, step, file in self._rows(query)]

    def last_written(self) -> float:
        (latest,) = self._rows("select max(heartbeat) from process")[0]
        return float(latest or 0.0)

    def status(self) -> Status:
        processes = self._rows("select id, host, pid, started, heartbeat from process")
        exits = [(by, event) for by, event in self._events_by_process() if event.kind == "exit"]
        said = {by for by, _ in exits}
        silent = [row for row in processes if row[0] not in said]
        if any(is_alive(Process(*row[1:4]), row[4]) for row in silent):
            return "running"
        latest = max((event.time for _, event in exits), default=0.0)
        if any(row[4] > latest for row in silent) or not exits:
            return "killed"
        worst = max(_badness(event.data) for _, event in exits)
        return ("finished", "failed", "killed")[worst]

    def points(self, stream: str, name: str, where: str) -> tuple[Steps, Values]:
        with self._reading():
            found = self._series().get((stream, name, where))
            if found is None:
                return empty(0)
            what = f"{name} at {where!r} of stream {stream!r}"
            return self._loading.whole(*found, what, tail=self._tail(found[0]), version=self._kept_version)

    def window(self, stream: str, name: str, where: str, first: int, last: int) -> tuple[Steps, Values]:
        with self._reading():
            found = self._series().get((stream, name, where))
            if found is None:
                return empty(0)
            what, tail = f"{name} at {where!r} of stream {stream!r}", self._tail(found[0])
            version = self._kept_version
            return self._loading.window(*found, what, tail=tail, first=first, last=last, version=version)

    def last_step(self, stream: str, name: str, where: str) -> int | None:
        with self._reading():
            found = self._series().get((stream, name, where))
            return None if found is None else self._loading.last_step(found[0], self._tail(found[0]))

    def rows(self, stream: str, name: str, where: str, *, first: int, last: int, least: int) -> Values | None:
        with self._reading():
            series, width = self._series().get((stream, name, where), (0, 1))
            if width:
                return None
            what, tail = f"{name} at {where!r} of stream {stream!r}", self._tail(series)
            version = self._kept_version
            return self._loading.rows(
                series, what, tail=tail, first=first, last=last, version=version, least=least
            )

    def still(self) -> AbstractContextManager[None]:
        return self._reading()

    def close(self) -> None:
        with self._lock:
            self._connection.close()
            # Records and the loading point back here: the points must not wait for the collector of cycles.
            self._records.clear()
            self._kept.pop("tail", None)
            self._loading.forget()

    def _tail(self, series: int) -> list[Piece]:
        return self._keep("tail", self._read_tail).get(series, [])

    def _read_tail(self) -> dict[int, list[Piece]]:
        """The points that are not in chunks yet, by series; flushes of the same series in one piece."""
        widths = {id: max(width, 1) for id, width in self._series().values()}
        layouts: dict[bytes, list[tuple[int, Steps, Values]]] = {}
        members: dict[bytes, list[int]] = {}
        in_layouts: Counter[int] = Counter()
        for flush, ids, steps, points in self._blocks():
            key = ids.tobytes()
            if key not in members:
                members[key] = ids.tolist()
                in_layouts.update(members[key])
            layouts.setdefault(key, []).append((flush, steps, points))
        pieces: dict[int, list[Piece]] = {}
        for key, blocks in layouts.items():
            together = [_one_block(blocks)]
            at = 0
            once, each = _pieces(together), _pieces(blocks)
            for series in members[key]:
                # Read in several layouts, a series keeps the order in which its flushes were written.
                for piece in once if in_layouts[series] == 1 else each:
                    columns = piece.columns[:, at : at + widths[series]]
                    own = Piece(piece.flush, piece.steps, columns, *piece[3:])
                    pieces.setdefault(series, []).append(own)
                at += widths[series]
        for several in pieces.values():
            several.sort(key=lambda piece: piece.flush)
        return pieces

    def _blocks(self) -> Iterator[tuple[int, NDArray[np.int32], Steps, Values]]:
        """What is not in chunks yet: number of the flush, series, steps, columns; damage is reported."""
        query = "select id, stream, block from tail order by id"
        try:
            for id, stream, block in self._connection.execute(query):
                try:
                    ids, steps, points = packing.unpack_block(block)
                except packing.Damaged as error:
                    self._report(f"a flush of stream {stream!r} is lost: {error}")
                    continue
                if len(steps):
                    yield id, ids, steps, points
        except sqlite3.DatabaseError as error:
            self._report(f"some of the last points are lost: {error}")

    def _report(self, damage: str) -> None:
        if damage not in self.damage:
            self.damage.append(damage)

    def _series(self) -> dict[tuple[str, str, str], tuple[int, int]]:
        query = "select stream, name, place, id, width from series order by id"
        return self._keep("series", lambda: {row[:3]: row[3:] for row in self._rows(query)})

    def _steps_of(self) -> dict[str, int]:
        return dict(self._rows("select name, last_step from stream"))

    def _events_by_process(self) -> list[tuple[int, Event]]:
        query = "select process, kind, step, place, data, time, stream from event order by id"
        return self._keep(
            "events of",
            lambda: [
                (by, Event(kind, step, place, json.loads(data), when, stream))
                for by, kind, step, place, data, when, stream in self._rows(query)
            ],
        )

    def _rows(self, query: str) -> list[Any]:
        with self._reading():
            return self._connection.execute(query).fetchall()

    def _keep(self, key: str, find: Callable[[], T]) -> T:
        if self._reader == threading.get_ident() and key in self._kept:
            return cast(T, self._kept[key])  # this thread has the lock already
        with self._reading():
            if key not in self._kept:
                self._kept[key] = find()
            return cast(T, self._kept[key])

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """One consistent view of the file; what was kept is dropped where the file has changed."""
        with self._lock:
            outermost = not self._connection.in_transaction
            try:
                if outermost:
                    self._connection.execute("begin")
                    (version,) = self._connection.execute("pragma data_version").fetchone()
                    if version != self._kept_version:
                        self._kept, self._kept_version = {}, version
                    self._reader = threading.get_ident()
                yield
            except sqlite3.DatabaseError as error:
                raise VarioError(
                    f"the record {self._path} is damaged: {error}. "
                    "Restore it from a copy or delete its directory."
                ) from error
            finally:
                if outermost:
                    self._reader = 0
                    if self._connection.in_transaction:
                        self._connection.execute("rollback")


def _pieces(blocks: list[tuple[int, Steps, Values]]) -> list[Piece]:
    """Blocks of several series, each with what is the same for all of these."""
    return [
        Piece(flush, steps, points, int(steps.min()), int(steps.max()), bool((np.diff(steps) > 0).all()))
        for flush, steps, points in blocks
    ]


def _one_block(blocks: list[tuple[int, Steps, Values]]) -> tuple[int, Steps, Values]:
    if len(blocks) == 1:
        return blocks[0]
    return (
        blocks[0][0],
        np.concatenate([steps for _, steps, _ in blocks]),
        np.concatenate([points for *_, points in blocks]),
    )


def _badness(data: Mapping[str, Any]) -> int:
    if data.get("signal"):
        return 2
    return 1 if data.get("code") or data.get("error") else 0


def _by_number(name: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]
