"""The writer of a run's record: readings, events, meta and arrays, appended by one or more processes.

Readings gather in memory and are written together, every 50 steps or after a second, as one block per
set of series (the tail). When a series of a stream has 950 points in the tail, the stream's tail
becomes one compressed chunk per series; what is read more often than the rest has a tail of its own.
Killed at any moment, a process loses what it had not flushed.
"""

from __future__ import annotations

import json
import os
import re
import sqlite3
import struct
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vario.nouns import Reading, VarioError
from vario.record import packing, schema
from vario.record.processes import myself
from vario.record.tail import Block, Layout, Tail, any_row

FLUSH_STEPS = 50
FLUSH_SECONDS = 1.0
BEAT_SECONDS = 1.0  # a page of its own is written for each sign of life
UNWRITTEN_BYTES = 64 << 20  # what is kept for a later try while the disk refuses

_NUMBER = struct.Struct("d")

_left_by_parents: list[sqlite3.Connection] = []  # a forked child must not close its parent's connection


class RecordWriter:
    """Appends to `run_dir/record.sqlite`, which is made at the first flush.

    Safe in forked children (each opens its own connection and leaves the parent's readings to the
    parent), with several threads, and with other processes writing the same file.
    Raises VarioError where the file cannot be written; what was not written is kept for the next flush.
    """

    def __init__(self, run_dir: Path | str) -> None:
        self.run_dir = Path(run_dir)
        self.path = self.run_dir / schema.FILE_NAME
        self._connection: sqlite3.Connection | None = None
        self._moment: tuple[str, int] | None = None  # the step that was last written to
        self._begin()

    def readings(self, stream: str, step: int, readings: Iterable[Reading]) -> None:
        """Takes what was read at one step of a stream; a series read twice at a step keeps the last.

        Raises VarioError for a series that had another width before, once the others are taken.
        """
        self._own()
        batch = readings if isinstance(readings, list) else list(readings)
        if not batch:
            return
        first, last = batch[0], batch[-1]
        with self._lock:
            # Most steps read the series that the last one read, so a list is compared, not hashed.
            alike = (stream, first.series, first.where, last.series, last.where, len(batch))
            layout = self._layouts.get(alike)
            values = None if layout is None else layout.values(batch)
            row = None if layout is None or values is None else layout.scalar_row(values)
            if layout is None or row is None:
                keys = [(reading.series, reading.where) for reading in batch]
                row, widths = any_row(keys, [reading.value for reading in batch])
                if changed := self._changed(stream, keys, widths):
                    self.readings(
                        stream, step, [r for r, key in zip(batch, keys, strict=True) if key not in changed]
                    )
                    raise VarioError(next(iter(changed.values())))
                if layout is None or values is None:
                    layout = self._layouts[alike] = Layout(stream, keys, widths)
            if not layout.steps:
                self._pending.append(layout)
            layout.steps.append(step)
            layout.rows.append(row)
            self._unwritten += len(row)
            if (stream, step) != self._moment:
                self._moment = (stream, step)
                self._steps += 1
            self._flush_if_due()

    def points(self, stream: str, series: str, steps: Sequence[int], values: Sequence[float]) -> None:
        """Takes many points of a series of numbers, which is read more often than all others of the stream.

        It has a tail of its own, so that the others do not become many small chunks; none of it may come by
        `readings`. Raises VarioError where the series had a width before.
        """
        self._own()
        with self._lock:
            alike = (stream, series, "", series, "", 0)
            layout = self._layouts.get(alike)
            if layout is None:
                keys = [(series, "")]
                if changed := self._changed(stream, keys, (0,)):
                    raise VarioError(next(iter(changed.values())))
                layout = self._layouts[alike] = Layout(stream, keys, (0,), alone=True)
            if not layout.steps:
                self._pending.append(layout)
            layout.steps.extend(steps)
            layout.rows.extend(map(_NUMBER.pack, values))
            self._unwritten += 8 * len(steps)
            if (stream, steps[-1]) != self._moment:
                self._moment = (stream, steps[-1])
                self._steps += 1
            self._flush_if_due()

    def event(
        self, stream: str, step: int, kind: str, where: str = "", data: Mapping[str, Any] | None = None
    ) -> None:
        """Notes that something happened; `data` is anything that JSON can hold."""
        self._own()
        text = json.dumps(dict(data or {}), default=_plain)
        with self._lock:
            self._events.append((time.time(), stream, step, kind, where, text))
            self._flush_if_due()

    def meta(self, key: str, value: Any) -> None:
        """Sets a fact about the run; the last value set stands."""
        self._own()
        with self._lock:
            self._meta[key] = json.dumps(value, default=_plain)
            self._flush_if_due()

    def array(self, name: str, stream: str, step: int, arrays: Mapping[str, NDArray[Any]]) -> Path:
        """Writes large arrays beside the record, whole or not at all, and returns their file."""
        from safetensors.numpy import save

        self._own()
        words = (re.sub(r"[^\w.@-]+", "_", word) for word in (name, stream, str(step)))
        path = self.run_dir / "arrays" / ("-".join(words) + ".safetensors")
        try:
            _write_whole(path, save({key: np.ascontiguousarray(value) for key, value in arrays.items()}))
        except OSError as error:
            raise VarioError(
                f"cannot write the arrays {path}: {error}. Free some space or set VARIO_HOME."
            ) from error
        with self._lock:
            self._files.append((stream, step, name, path.name))
            self._flush_if_due()
        return path

    def flush(self) -> None:
        """Writes what has gathered, so that readers see it and a kill cannot take it."""
        self._own()
        with self._lock:
            self._flushed_at, self._steps = time.monotonic(), 0
            if not (self._pending or self._events or self._meta or self._files):
                return
            try:
                with self._transaction() as connection:
                    blocks = self._write(connection)
            except BaseException:
                self._forget_ids()
                if self._unwritten > UNWRITTEN_BYTES:
                    self._drop_pending()
                raise
            self._wrote(blocks)
            for name in [name for name, tail in self._tails.items() if tail.is_full()]:
                self._compact(name)

    def close(self) -> None:
        """Flushes, turns the tail into chunks, and leaves one plain file if no other process has it open."""
        self._own()
        with self._lock:
            try:
                self.flush()
                for name in list(self._tails):
                    self._compact(name)
            finally:
                if self._connection is not None:
                    schema.leave(self._connection)
                    self._connection = None

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.RLock()
        self._connection = None
        self._process, self._beat = 0, 0.0
        self._layouts: dict[tuple[str, str, str, str, str, int], Layout] = {}
        self._widths: dict[tuple[str, str, str], int] = {}
        self._ids: dict[tuple[str, str, str], int] = {}
        self._tails: dict[tuple[str, str], Tail] = {}
        self._flushed_at = float("-inf")
        self._drop_pending()

    def _drop_pending(self) -> None:
        for layout in self._layouts.values():
            layout.steps, layout.rows = [], []
        self._pending: list[Layout] = []
        self._events: list[tuple[float, str, int, str, str, str]] = []
        self._meta: dict[str, str] = {}
        self._files: list[tuple[str, int, str, str]] = []
        self._steps = self._unwritten = 0
        self._moment = None

    def _own(self) -> None:
        """In a forked child: a new beginning; what had gathered is the parent's to write."""
        if os.getpid() != self._pid:
            if self._connection is not None:
                _left_by_parents.append(self._connection)
            self._begin()

    def _flush_if_due(self) -> None:
        if self._steps >= FLUSH_STEPS or time.monotonic() - self._flushed_at >= FLUSH_SECONDS:
            self.flush()

    def _changed(
        self, stream: str, keys: list[tuple[str, str]], widths: tuple[int, ...]
    ) -> dict[tuple[str, str], str]:
        """The series that had another width before, each with what is to be said of it."""
        changed = {}
        for key, width in zip(keys, widths, strict=True):
            known = self._widths.setdefault((stream, *key), width)
            if known != width:
                changed[key] = (
                    f"{key[0]} at {key[1]!r} of stream {stream!r} had {known or 1} values per step, now "
                    f"{width or 1}. The width of a series never changes: use another name for the other one."
                )
        return changed

    def _transaction(self) -> AbstractContextManager[sqlite3.Connection]:
        if self._connection is None:
            try:
                self.run_dir.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise VarioError(f"cannot make the run {self.run_dir}: {error}. Set VARIO_HOME.") from error
            self._connection = schema.open_for_writing(self.path)
        return schema.transaction(self._connection, self.path)

    def _write(self, connection: sqlite3.Connection) -> list[Block]:
        """Inside a transaction: everything that has gathered."""
        now, me = time.time(), myself()
        if not self._process or not 0 <= now - self._beat < BEAT_SECONDS:
            connection.execute(
                "insert into process(host, pid, started, opened, heartbeat) values(?, ?, ?, ?, ?) "
                "on conflict(host, pid, started) do update set heartbeat=excluded.heartbeat",
                (me.host, me.pid, me.started, now, now),
            )
            self._beat = now
        if not self._process:
            find = "select id from process where host=? and pid=? and started=?"
            (self._process,) = connection.execute(find, (me.host, me.pid, me.started)).fetchone()
        connection.executemany("insert or replace into meta values(?, ?)", self._meta.items())
        connection.executemany(
            "insert into event(process, time, stream, step, kind, place, data) values(?, ?, ?, ?, ?, ?, ?)",
            ((self._process, *event) for event in self._events),
        )
        connection.executemany("insert into array(stream, step, name, file) values(?, ?, ?, ?)", self._files)
        seen = [(stream, step) for _, stream, step, *_ in self._events if stream]
        seen += [(layout.stream, max(layout.steps)) for layout in self._pending]
        connection.executemany(
            "insert into stream values(?, ?) on conflict(name) do update "
            "set last_step=max(last_step, excluded.last_step)",
            seen,
        )
        return [self._write_block(connection, layout) for layout in self._pending]

    def _write_block(self, connection: sqlite3.Connection, layout: Layout) -> Block:
        if layout.ids is None:
            layout.ids = np.array(
                [self._series(connection, layout.stream, *key) for key in layout.keys], np.int32
            )
        steps = np.array(layout.steps, np.int64)
        points = packing.narrow(np.frombuffer(b"".join(layout.rows)).reshape(len(steps), -1))
        cursor = connection.execute(
            "insert into tail(stream, block) values(?, ?)",
            (layout.stream, packing.pack_block(layout.ids, steps, points)),
        )
        return Block(int(cursor.lastrowid or 0), layout, steps, points)

    def _series(self, connection: sqlite3.Connection, stream: str, name: str, place: str) -> int:
        key = (stream, name, place)
        if key not in self._ids:
            wanted = self._widths[key]
            connection.execute(
                "insert or ignore into series(stream, name, place, width) values(?, ?, ?, ?)", (*key, wanted)
            )
            find = "select id, width from series where stream=? and name=? and place=?"
            self._ids[key], width = connection.execute(find, key).fetchone()
            if width != wanted:
                self._drop_pending()
                raise VarioError(
                    f"{name} at {place!r} of stream {stream!r} has {wanted or 1} values per step here and "
                    f"{width or 1} in the record {self.path}. Use another name for one of them."
                )
        return self._ids[key]

    def _wrote(self, blocks: list[Block]) -> None:
        """After the commit: what was pending is now the tail."""
        for block in blocks:
            self._tails.setdefault(block.layout.tail, Tail()).add(block)
        self._drop_pending()

    def _forget_ids(self) -> None:
        """After a rollback: numbers given inside it are void."""
        self._ids.clear()
        self._process = 0
        for layout in self._layouts.values():
            layout.ids = None
        for layout in self._pending:
            layout.ids = None

    def _compact(self, name: tuple[str, str]) -> None:
        tail = self._tails[name]
        columns = tail.columns()
        alike: dict[tuple[int, tuple[int, ...]], list[int]] = {}
        for series, (steps, values) in columns.items():
            alike.setdefault((id(steps), values.shape), []).append(series)
        chunks: list[tuple[Any, ...]] = []
        for together in alike.values():
            points = np.stack([columns[series][1] for series in together])
            steps, points = packing.in_order(columns[together[0]][0], points, axis=1)
            held = int(steps[0]), int(steps[-1]), len(steps)
            told = zip(together, packing.summaries(points), packing.pack_all(steps, points), strict=True)
            chunks += [(series, *held, *summary, blob) for series, summary, blob in told]
        with self._transaction() as connection:
            connection.executemany(
                "insert into chunk(series, first, last, count, low, mean, high, points) "
                "values(?, ?, ?, ?, ?, ?, ?, ?)",
                chunks,
            )
            connection.executemany("delete from tail where id=?", ((block.id,) for block in tail.blocks))
        del self._tails[name]


def _plain(value: Any) -> Any:
    """For JSON: numpy's numbers and arrays as Python's, anything else as its text."""
    if isinstance(value, (np.ndarray, np.generic)):
        return value.tolist()
    return sorted(map(str, value)) if isinstance(value, (set, frozenset)) else str(value)


def _write_whole(path: Path, content: bytes) -> None:
    """Under a temporary name, to the disk, then renamed: nobody ever sees half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
