"""Points and summaries of series as they are read from a record: bit by bit, shared, within a budget.

A series is read once and then only what was added to it. Series that were read at the same steps share
one array of steps. What has not been asked for longest is let go of when the budget is spent.
"""

from __future__ import annotations

import hashlib
import sqlite3
import weakref
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vario.record import packing
from vario.record.packing import Steps, Values

__all__ = ["BUDGET", "Loading", "Points", "empty"]

BUDGET = 512 << 20  # bytes of values that are kept for the next who asks
FIRST, LAST = -(2**62), 2**62  # before and after every step
Points = tuple[Steps, Values]
Rows = NDArray[np.float64]
# first step, last step, points, lowest, mean, highest: what a chunk says of itself without being opened
SUMMARY = "first, last, count, low, mean, high"


class Piece(NamedTuple):
    """A series in one flush that is not in chunks yet; `flush` is its number in one state of the file."""

    flush: int
    steps: Steps
    columns: Values
    first: int  # the smallest step
    last: int
    rising: bool  # whether each step is after the one before it


@dataclass
class _Loaded:
    """What is known of one series: its chunks up to number `chunk`, and all its points at `version`."""

    chunk: int = 0
    newest: int = -1  # chunk of the whole file when they were looked for
    grids: list[packing.Grid] = field(default_factory=list)
    values: list[Values] = field(default_factory=list)
    version: int = -1
    result: Points | None = None
    shared: _Steps | None = None

    def size(self) -> int:
        """Bytes of values; what is in chunks is held once more where a tail was joined to it."""
        chunks = sum(part.nbytes for part in self.values)
        shown = self.result[1].nbytes if self.result is not None else 0
        return chunks if shown == chunks else chunks + shown


PARTS = 8  # of a chunk: where few chunks would be a coarse picture, each is summed up in so many

# Chunks of the first records say the first step written and the last, even where the steps went back.
_INSIDE = "((last>=? and first<=?) or first>last)"
_NONE: Rows = np.zeros((0, 6))


@dataclass
class _Summed:
    chunk: int = 0
    newest: int = -1  # chunk of the whole file when it was looked for
    rows: Rows = field(default_factory=lambda: _NONE)
    back: bool = False  # whether chunks overlap, or steps went back inside one
    finer: Rows = field(default_factory=lambda: _NONE)  # the same of parts of chunks, up to the chunk `fine`
    fine: int = 0


class _Steps:
    """An array of steps that several series share, and whether it rises throughout."""

    def __init__(self, steps: Steps) -> None:
        self.steps = steps
        self.rising = bool((np.diff(steps) > 0).all())
        steps.setflags(write=False)


class Loading:
    """Reads chunks of a connection; the caller holds the lock and the transaction, and knows the tail."""

    def __init__(self, connection: sqlite3.Connection, report: Callable[[str], None], budget: int) -> None:
        self._connection, self._report, self._budget = connection, report, budget
        self._loaded: OrderedDict[int, _Loaded] = OrderedDict()
        self._summed: dict[int, _Summed] = {}
        self._steps: weakref.WeakValueDictionary[Hashable, _Steps] = weakref.WeakValueDictionary()
        self._newest = (-1, 0)  # version of the file, its newest chunk
        self._spent = 0

    def whole(self, series: int, width: int, what: str, *, tail: Sequence[Piece], version: int) -> Points:
        """All points of a series; `tail` is what is not in chunks yet, `version` that of the file."""
        loaded = self._loaded.setdefault(series, _Loaded())
        self._loaded.move_to_end(series)
        if loaded.result is None or loaded.version != version:
            before = loaded.size()
            self._extend(series, loaded, what, version)
            loaded.result, loaded.shared = self._joined(width, loaded.grids, loaded.values, tail, version)
            loaded.version = version
            self._spent += loaded.size() - before
            self._let_go()
        return loaded.result

    def forget(self) -> None:
        """Let go of all points."""
        self._loaded.clear()
        self._summed.clear()
        self._spent = 0

    def window(
        self,
        series: int,
        width: int,
        what: str,
        *,
        tail: Sequence[Piece],
        first: int,
        last: int,
        version: int,
    ) -> Points:
        """The points from step `first` to `last`, opening no chunk that holds none of them."""
        known = self._loaded.get(series)
        if known is not None and known.result is not None and known.version == version:
            steps, values = known.result
        else:
            parts = self._inside(series, what, first, last, version)
            near = [piece for piece in tail if piece.last >= first and piece.first <= last]
            if not parts and len(near) == 1 and near[0].rising:  # news of a run, as a page asks for it
                return _between(
                    near[0].steps, near[0].columns if width else near[0].columns[:, 0], first, last
                )
            chunks = [packing.values_of(parts)] if parts else []
            (steps, values), _ = self._joined(width, [part.steps for part in parts], chunks, near, version)
        return _between(steps, values, first, last)

    def rows(
        self,
        series: int,
        what: str,
        *,
        tail: Sequence[Piece],
        first: int,
        last: int,
        version: int,
        least: int,
    ) -> Rows | None:
        """What chunks say of themselves (SUMMARY), between steps `first` and `last`, without opening them.

        Chunks at the edges of the window, and the tail, come point by point. Where fewer than `least` chunks
        lie wholly inside, parts of them are told, which are made once; None where these are too few as well,
        or where chunks overlap, so that what a point replaced would count.
        """
        summed = self._summaries(series, version)
        rows = summed.rows
        tail_from = min((piece.first for piece in tail), default=LAST)
        if summed.back or (len(rows) and tail_from <= rows[-1, 1]):
            return None
        start, stop = _inside_of(rows, first, last)
        if stop - start < max(least, 1):
            if PARTS * (stop - start) < 3 * least:
                return None
            rows = self._parts(series, what, summed)
            start, stop = _inside_of(rows, first, last)
            if stop - start < 2 * least:  # some were lost
                return None
        parts = [rows[start:stop]]
        edges = []
        if start and rows[start - 1, 1] >= first:
            edges.append((0, first, int(rows[start, 0]) - 1))
        if (stop < len(rows) and rows[stop, 0] <= last) or (tail and tail_from <= last):
            edges.append((len(parts) + len(edges), int(rows[stop - 1, 1]) + 1, last))
        for place, begin, end in edges:
            steps, values = self.window(series, 0, what, tail=tail, first=begin, last=end, version=version)
            points = np.stack([steps, steps, np.ones(len(steps)), values, values, values], axis=1)
            parts.insert(place, points)
        return np.concatenate(parts) if edges else parts[0]

    def _parts(self, series: int, what: str, summed: _Summed) -> Rows:
        """What `rows` tells, of an eighth of a chunk each; chunks are opened when they are new."""
        fetched = self._opened(series, what, "id>?", (summed.fine,))
        if fetched:
            summed.fine = fetched[-1][0]
            parts = [part for _, part in fetched]
            steps = np.concatenate([packing.stepping(part.steps) for part in parts])
            counts = np.array([part.length for part in parts])
            begins = np.cumsum(counts) - counts
            shares = np.arange(PARTS) * counts[:, None] // PARTS
            edges = np.unique(begins[:, None] + shares)
            added = _summed_up(steps, packing.values_of(parts), edges)
            summed.finer = np.concatenate([summed.finer, added])
        return summed.finer

    def _inside(self, series: int, what: str, first: int, last: int, version: int) -> list[packing.Part]:
        """Chunks that may hold points between two steps; those after all that is known are not looked for."""
        summed = self._summed.get(series)
        if summed is not None and summed.newest == self._newest_chunk(version) and not summed.back:
            if not len(summed.rows) or first > summed.rows[-1, 1]:
                return []
        return [part for _, part in self._opened(series, what, _INSIDE, (first, last))]

    def _summaries(self, series: int, version: int) -> _Summed:
        summed = self._summed.setdefault(series, _Summed())
        query = f"select id, {SUMMARY} from chunk where series=? and id>? order by id"
        try:
            newest = self._newest_chunk(version)
            if summed.newest == newest:
                return summed
            found = self._connection.execute(query, (series, summed.chunk)).fetchall()
        except sqlite3.DatabaseError:  # whoever reads the points says which are lost
            return _Summed()
        summed.newest = newest
        if found:
            summed.chunk = found[-1][0]
            added = np.array([row[1:] for row in found], np.float64)  # SQLite keeps NaN as null
            rows = summed.rows = np.concatenate([summed.rows, added])
            overlap = (rows[1:, 0] <= rows[:-1, 1]).any()
            summed.back = bool(overlap or (rows[:, 2] > rows[:, 1] - rows[:, 0] + 1).any())
        return summed

    def _newest_chunk(self, version: int) -> int:
        """The number of the last chunk of all series: where it is as it was, no series has new ones."""
        if self._newest[0] != version:
            try:
                (newest,) = self._connection.execute("select max(id) from chunk").fetchone()
            except sqlite3.DatabaseError:  # damaged: whoever looks for chunks says what is lost
                return LAST
            self._newest = version, newest or 0
        return self._newest[1]

    def last_step(self, series: int, tail: Sequence[Piece]) -> int | None:
        """The last step at which a series was read."""
        query = "select max(last) from chunk where series=?"
        (chunk,) = self._connection.execute(query, (series,)).fetchone()
        ends = [piece.last for piece in tail] + ([int(chunk)] if chunk is not None else [])
        return max(ends, default=None)

    def _extend(self, series: int, loaded: _Loaded, what: str, version: int) -> None:
        newest = self._newest_chunk(version)
        if loaded.newest == newest:
            return
        fetched = self._opened(series, what, "id>?", (loaded.chunk,))
        loaded.newest = newest
        if fetched:
            loaded.chunk = fetched[-1][0]
            loaded.grids = _merged([*loaded.grids, *(part.steps for _, part in fetched)])
            added = packing.values_of([part for _, part in fetched])
            loaded.values = [np.concatenate([*loaded.values, added]) if loaded.values else added]

    def _opened(
        self, series: int, what: str, which: str, arguments: tuple[int, ...]
    ) -> list[tuple[int, packing.Part]]:
        """Chunks with their numbers; what is damaged is reported and left out."""
        query = f"select id, first, last, count, points from chunk where series=? and {which} order by id"
        parts: list[tuple[int, packing.Part]] = []
        end = -1
        try:
            for id, first, last, count, blob in self._connection.execute(query, (series, *arguments)):
                try:
                    parts.append((id, packing.opened(blob)))
                except packing.Damaged as error:
                    self._report(f"{count} points of {what}, steps {first} to {last}, are lost: {error}")
                end = last
        except sqlite3.DatabaseError as error:
            self._report(f"points of {what} after step {end} are lost: {error}")
        return parts

    def _joined(
        self,
        width: int,
        grids: Sequence[packing.Grid],
        chunks: Sequence[Values],
        tail: Sequence[Piece],
        version: int,
    ) -> tuple[Points, _Steps | None]:
        if not chunks and not tail:
            return empty(width), None
        parts = [*chunks, *(piece.columns if width else piece.columns[:, 0] for piece in tail)]
        values = parts[0] if len(parts) == 1 else np.concatenate(parts)
        shared = self._shared(_merged(grids), tail, version)
        steps, values = (shared.steps, values) if shared.rising else packing.in_order(shared.steps, values)
        values = values.view()  # a flag of its own: what is behind it is still added to
        values.setflags(write=False)
        steps.setflags(write=False)
        return (steps, values), shared

    def _shared(self, grids: Sequence[packing.Grid], tail: Sequence[Piece], version: int) -> _Steps:
        """The steps of some chunks and of the tail after them, made once for all series that have them."""
        key = (
            tuple(_digest(grid) if isinstance(grid, bytes) else grid for grid in grids),
            (version, *(piece.flush for piece in tail)) if tail else (),
        )
        found = self._steps.get(key)
        if found is None:
            parts = [*(packing.stepping(grid) for grid in grids), *(piece.steps for piece in tail)]
            found = self._steps[key] = _Steps(np.concatenate(parts))
        return found

    def _let_go(self) -> None:
        while self._spent > self._budget and len(self._loaded) > 1:
            _, oldest = self._loaded.popitem(last=False)
            self._spent -= oldest.size()


def empty(width: int) -> Points:
    """No points of a series of `width` values per step."""
    return np.zeros(0, np.int64), np.zeros((0, width) if width else 0)


def _between(steps: Steps, values: Values, first: int, last: int) -> Points:
    part = slice(int(steps.searchsorted(first)), int(steps.searchsorted(last, side="right")))
    return steps[part], values[part]


def _merged(grids: Sequence[packing.Grid]) -> list[packing.Grid]:
    """Chunks that follow each other at one stride as one grid, so that alike series have alike keys."""
    merged: list[packing.Grid] = []
    for grid in grids:
        last = merged[-1] if merged else b""
        if isinstance(grid, tuple) and isinstance(last, tuple):
            start, stride, count = last
            follows = grid[0] == start + stride * count and (grid[1] == stride or grid[2] == 1)
            if follows:
                merged[-1] = (start, stride, count + grid[2])
                continue
        merged.append(grid)
    return merged


def _digest(steps: bytes) -> bytes:
    return hashlib.blake2b(steps, digest_size=16).digest()


def _inside_of(rows: Rows, first: int, last: int) -> tuple[int, int]:
    """Which rows lie wholly between two steps: from one, and up to another."""
    start = int(np.searchsorted(rows[:, 0], first))
    return start, int(np.searchsorted(rows[:, 1], last, side="right"))


def _summed_up(steps: Steps, values: Values, edges: NDArray[np.intp]) -> Rows:
    """SUMMARY of the points from each edge to the next."""
    known = ~np.isnan(values)
    ends = np.append(edges[1:], len(steps)) - 1
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.add.reduceat(np.where(known, values, 0.0), edges) / np.add.reduceat(
            known.astype(float), edges
        )
    low, high = np.fmin.reduceat(values, edges), np.fmax.reduceat(values, edges)
    count = ends - edges + 1
    return np.stack([steps[edges], steps[ends], count, low, mean, high], axis=1).astype(np.float64)
