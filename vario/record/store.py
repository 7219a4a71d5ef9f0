"""The writer of a run's record: readings, events, meta and arrays, appended by one or more processes.

Readings gather in memory and are written together, every 50 steps or after a second, as one block per
set of series (the tail). When a series of a stream has 1,000 points in the tail, the stream's tail
becomes one compressed chunk per series. Killed at any moment, a process loses what it had not flushed.
"""

from __future__ import annotations

import json
import os
import re
import sqlite3
import threading
import time
from collections.abc import Iterable, Mapping
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vario.nouns import Reading, VarioError
from vario.record import packing, schema
from vario.record.processes import myself

FLUSH_STEPS = 50
FLUSH_SECONDS = 1.0
CHUNK_POINTS = 1_000
TAIL_BYTES = 16 << 20  # a tail of wide vectors becomes chunks earlier, to bound memory
UNWRITTEN_BYTES = 64 << 20  # what is kept for a later try while the disk refuses

_key = attrgetter("series", "where")
_value = attrgetter("value")
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
        self._begin()

    def readings(self, stream: str, step: int, readings: Iterable[Reading]) -> None:
        """Takes what was read at one step of a stream; a series read twice at a step keeps the last."""
        self._own()
        batch = list(readings)
        if not batch:
            return
        keys = list(map(_key, batch))
        with self._lock:
            layout = self._layouts.get((stream, keys[0], len(keys)))
            values = list(map(_value, batch))
            if layout is None or layout.keys != keys:
                row, widths = _row(keys, values)
                layout = self._new_layout(stream, keys, widths)
            elif layout.scalars:
                row = _scalars(keys, values)
            else:
                row, widths = _row(keys, values)
                self._check_widths(stream, keys, widths)
            if not layout.steps:
                self._pending.append(layout)
            layout.steps.append(step)
            layout.rows.append(row)
            self._unwritten += row.nbytes
            if (stream, step) != self._moment:
                self._moment = (stream, step)
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
            for stream in [name for name, tail in self._tails.items() if tail.is_full()]:
                self._compact(stream)

    def close(self) -> None:
        """Flushes, turns the tail into chunks, and leaves one plain file if no other process has it open."""
        self.flush()
        with self._lock:
            for stream in list(self._tails):
                self._compact(stream)
            if self._connection is not None:
                try:
                    self._connection.execute("pragma busy_timeout=0")
                    self._connection.execute("pragma journal_mode=delete")
                except sqlite3.OperationalError:  # another process reads or writes: it keeps its WAL
                    pass
                self._connection.close()
                self._connection = None

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.RLock()
        self._connection: sqlite3.Connection | None = None
        self._process = 0
        self._layouts: dict[tuple[str, tuple[str, str], int], _Layout] = {}
        self._widths: dict[tuple[str, str, str], int] = {}
        self._ids: dict[tuple[str, str, str], int] = {}
        self._tails: dict[str, _Tail] = {}
        self._flushed_at = float("-inf")
        self._drop_pending()

    def _drop_pending(self) -> None:
        for layout in self._layouts.values():
            layout.steps, layout.rows = [], []
        self._pending: list[_Layout] = []
        self._events: list[tuple[float, str, int, str, str, str]] = []
        self._meta: dict[str, str] = {}
        self._files: list[tuple[str, int, str, str]] = []
        self._steps = self._unwritten = 0
        self._moment: tuple[str, int] | None = None

    def _own(self) -> None:
        """In a forked child: a new beginning; what had gathered is the parent's to write."""
        if os.getpid() != self._pid:
            if self._connection is not None:
                _left_by_parents.append(self._connection)
            self._begin()

    def _flush_if_due(self) -> None:
        if self._steps >= FLUSH_STEPS or time.monotonic() - self._flushed_at >= FLUSH_SECONDS:
            self.flush()

    def _new_layout(self, stream: str, keys: list[tuple[str, str]], widths: tuple[int, ...]) -> _Layout:
        self._check_widths(stream, keys, widths)
        layout = self._layouts[stream, keys[0], len(keys)] = _Layout(stream, keys, widths)
        return layout

    def _check_widths(self, stream: str, keys: list[tuple[str, str]], widths: tuple[int, ...]) -> None:
        for key, width in zip(keys, widths, strict=True):
            known = self._widths.setdefault((stream, *key), width)
            if known != width:
                raise VarioError(
                    f"{key[0]} at {key[1]!r} of stream {stream!r} had {known or 1} values per step and now has "
                    f"{width or 1}. The width of a series never changes: use another name for the other one."
                )

    def _transaction(self) -> _Transaction:
        if self._connection is None:
            try:
                self.run_dir.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise VarioError(f"cannot make the run {self.run_dir}: {error}. Set VARIO_HOME.") from error
            self._connection = schema.open_for_writing(self.path)
        return _Transaction(self._connection, self.path)

    def _write(self, connection: sqlite3.Connection) -> list[_Block]:
        """Inside a transaction: everything that has gathered."""
        now, me = time.time(), myself()
        connection.execute(
            "insert into process(host, pid, started, opened, heartbeat) values(?, ?, ?, ?, ?) "
            "on conflict(host, pid, started) do update set heartbeat=excluded.heartbeat",
            (me.host, me.pid, me.started, now, now),
        )
        if not self._process:
            find = "select id from process where host=? and pid=? and started=?"
            (self._process,) = connection.execute(find, (me.host, me.pid, me.started)).fetchone()
        connection.executemany("insert or replace into meta values(?, ?)", self._meta.items())
        connection.executemany(
            "insert into event(process, time, stream, step, kind, place, data) values(?, ?, ?, ?, ?, ?, ?)",
            ((self._process, *event) for event in self._events),
        )
        connection.executemany("insert into array(stream, step, name, file) values(?, ?, ?, ?)", self._files)
        last: dict[str, int] = {}
        for _, stream, step, *_rest in self._events:
            last[stream] = max(step, last.get(stream, -1))
        blocks = []
        for layout in self._pending:
            last[layout.stream] = max(*layout.steps, last.get(layout.stream, -1))
            blocks.append(self._write_block(connection, layout))
        connection.executemany(
            "insert into stream values(?, ?) on conflict(name) do update "
            "set last_step=max(last_step, excluded.last_step)",
            ((name, step) for name, step in last.items() if name),
        )
        return blocks

    def _write_block(self, connection: sqlite3.Connection, layout: _Layout) -> _Block:
        if layout.ids is None:
            layout.ids = np.array(
                [self._series(connection, layout.stream, *key) for key in layout.keys], np.int32
            )
        steps, points = np.array(layout.steps, np.int64), np.array(layout.rows)
        cursor = connection.execute(
            "insert into tail(stream, block) values(?, ?)",
            (layout.stream, packing.pack_block(layout.ids, steps, points)),
        )
        return _Block(int(cursor.lastrowid or 0), layout, steps, points)

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

    def _wrote(self, blocks: list[_Block]) -> None:
        """After the commit: what was pending is now the tail."""
        for block in blocks:
            self._tails.setdefault(block.layout.stream, _Tail()).add(block)
        self._drop_pending()

    def _forget_ids(self) -> None:
        """After a rollback: numbers given inside it are void."""
        self._ids.clear()
        self._process = 0
        for layout in self._layouts.values():
            layout.ids = None
        for layout in self._pending:
            layout.ids = None

    def _compact(self, stream: str) -> None:
        tail = self._tails[stream]
        chunks = []
        for series, (steps, values) in tail.columns().items():
            low, mean, high = packing.summary(values)
            first, last, blob = int(steps[0]), int(steps[-1]), packing.pack(steps, values)
            chunks.append((series, first, last, len(steps), low, mean, high, blob))
        with self._transaction() as connection:
            connection.executemany(
                "insert into chunk(series, first, last, count, low, mean, high, points) "
                "values(?, ?, ?, ?, ?, ?, ?, ?)",
                chunks,
            )
            connection.executemany("delete from tail where id=?", ((block.id,) for block in tail.blocks))
        del self._tails[stream]


class _Transaction:
    """`begin immediate` to commit; rolled back on any exception, SQLite's own told as a VarioError."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self.connection, self.path = connection, path

    def __enter__(self) -> sqlite3.Connection:
        try:
            self.connection.execute("begin immediate")
        except sqlite3.Error as error:
            raise schema.cannot_write(self.path, error) from error
        return self.connection

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        try:
            self.connection.execute("commit" if error is None else "rollback")
        except sqlite3.Error as refused:
            if error is None:
                if self.connection.in_transaction:
                    self.connection.execute("rollback")
                error = refused
        if isinstance(error, sqlite3.Error):
            raise schema.cannot_write(self.path, error) from error


class _Layout:
    """A set of series that are read together, and their points since the last flush."""

    def __init__(self, stream: str, keys: list[tuple[str, str]], widths: tuple[int, ...]) -> None:
        self.stream, self.keys, self.widths = stream, keys, widths
        self.scalars = not any(widths)
        self.ids: NDArray[np.int32] | None = None
        self.steps: list[int] = []
        self.rows: list[NDArray[np.float64]] = []


class _Block:
    """One flushed row of the tail."""

    def __init__(self, id: int, layout: _Layout, steps: packing.Steps, points: packing.Values) -> None:
        self.id, self.layout, self.steps, self.points = id, layout, steps, points
        assert layout.ids is not None
        self.ids = layout.ids


class _Tail:
    """What this process has flushed of one stream and not yet packed into chunks."""

    def __init__(self) -> None:
        self.blocks: list[_Block] = []
        self.counts: NDArray[np.int64] = np.zeros(0, np.int64)
        self.bytes = 0

    def add(self, block: _Block) -> None:
        self.blocks.append(block)
        self.bytes += block.points.nbytes
        if block.ids.max() >= len(self.counts):
            self.counts = np.pad(self.counts, (0, 2 * int(block.ids.max()) + 1 - len(self.counts)))
        self.counts[block.ids] += len(block.steps)

    def is_full(self) -> bool:
        return bool(self.counts.max() >= CHUNK_POINTS) or self.bytes >= TAIL_BYTES

    def columns(self) -> dict[int, tuple[packing.Steps, packing.Values]]:
        """Steps and values of each series, in the order of the steps."""
        parts: dict[int, list[tuple[packing.Steps, packing.Values]]] = {}
        layouts: dict[_Layout, list[_Block]] = {}
        for block in self.blocks:
            layouts.setdefault(block.layout, []).append(block)
        for layout, blocks in layouts.items():
            steps = np.concatenate([block.steps for block in blocks])
            points = np.ascontiguousarray(np.concatenate([block.points for block in blocks]).T)
            at = 0
            for series, width in zip(blocks[0].ids.tolist(), layout.widths, strict=True):
                values = points[at] if not width else np.ascontiguousarray(points[at : at + width].T)
                parts.setdefault(series, []).append((steps, values))
                at += max(width, 1)
        return {series: _merged(pieces) for series, pieces in parts.items()}


def _merged(pieces: list[tuple[packing.Steps, packing.Values]]) -> tuple[packing.Steps, packing.Values]:
    if len(pieces) == 1:
        return pieces[0]
    steps = np.concatenate([piece[0] for piece in pieces])
    order = np.argsort(steps, kind="stable")
    return steps[order], np.concatenate([piece[1] for piece in pieces])[order]


def _scalars(keys: list[tuple[str, str]], values: list[Any]) -> NDArray[np.float64]:
    try:
        row = np.array(values, np.float64)
    except (TypeError, ValueError):
        row = np.empty(0)
    return row if row.shape == (len(keys),) else _row(keys, values)[0]


def _row(keys: list[tuple[str, str]], values: list[Any]) -> tuple[NDArray[np.float64], tuple[int, ...]]:
    """All values end to end, and the width of each: 0 for a scalar."""
    parts, widths = [], []
    for (series, where), value in zip(keys, values, strict=True):
        try:
            part = np.asarray(value, np.float64)
        except (TypeError, ValueError) as error:
            raise VarioError(
                f"{series} at {where!r} was read as {value!r}; a reading is a float or floats."
            ) from error
        if part.ndim > 1 or part.size == 0:
            raise VarioError(
                f"{series} at {where!r} has shape {part.shape}; a reading is a float or a flat row of floats."
            )
        widths.append(part.size if part.ndim else 0)
        parts.append(part.reshape(-1))
    return np.concatenate(parts), tuple(widths)


def _plain(value: Any) -> Any:
    """For JSON: numpy's numbers and arrays as Python's, anything else as its text."""
    if hasattr(value, "tolist"):
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
