"""One stream of a run, all that a rule may see: series of points, events and meta."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from vario.nouns import NotApplicable
from vario.record.loading import FIRST, LAST
from vario.record.shards import Whole

Steps = NDArray[np.int64]
Values = NDArray[np.float64]
T = TypeVar("T")
Overview = tuple[NDArray[np.float64], Values, Values, Values]


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened at a step; `time` in seconds since 1970, `stream` "" for the whole run."""

    kind: str
    step: int
    where: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)
    time: float = 0.0
    stream: str = ""


class Source(Protocol):
    """Where a Record gets its points from: a file that may still grow, or memory."""

    def index(self, stream: str) -> Mapping[str, Sequence[str]]: ...
    def points(self, stream: str, name: str, where: str) -> tuple[Steps, Values]: ...
    def events(self) -> Sequence[Event]: ...
    def window(self, stream: str, name: str, where: str, first: int, last: int) -> tuple[Steps, Values]: ...
    def rows(
        self, stream: str, name: str, where: str, *, first: int, last: int, least: int
    ) -> NDArray[np.float64] | None: ...
    def last_step(self, stream: str, name: str, where: str) -> int | None: ...
    def width(self, stream: str, name: str, where: str) -> int: ...
    def step_count(self, stream: str) -> int: ...
    def meta(self) -> Mapping[str, Any]: ...


class Record:
    """What was recorded of one stream. Every call sees what has been flushed by then.

    Arrays are read-only and shared between callers: copy one before changing it.
    """

    def __init__(self, source: Source, stream: str) -> None:
        self._source: Source = Whole(source)
        self._kept: dict[Hashable, Any] | None = None
        self.stream = stream

    def keeping(self) -> Record:
        """The same stream for one look at it: what is found `once` is kept as long as this view is."""
        view = copy(self)
        view._kept = {}
        return view

    def once(self, key: Hashable, find: Callable[[], T]) -> T:
        """What `find` gives; in a view that is `keeping`, the first answer under that key.

        The key names all that the answer depends on besides the record. Elsewhere nothing is kept, since
        the record may grow.
        """
        if self._kept is None:
            return find()
        if key not in self._kept:
            self._kept[key] = find()
        return cast(T, self._kept[key])

    def series(self, name: str, where: str = "") -> tuple[Steps, Values]:
        """Steps (n,) and values (n,) or (n, width), steps rising; empty where there is nothing."""
        return self._source.points(self.stream, name, where)

    def window(self, name: str, where: str = "", *, first: int, last: int) -> tuple[Steps, Values]:
        """The same of the steps from `first` to `last`, both included, without reading what lies outside."""
        return self._source.window(self.stream, name, where, first, last)

    def count(self, name: str, where: str = "") -> int:
        """How many readings there are; of a scalar series without opening what is in chunks."""
        rows = self._source.rows(self.stream, name, where, first=FIRST, last=LAST, least=1)
        return len(self.series(name, where)[0]) if rows is None else int(rows[:, 2].sum())

    def need(self, name: str, count: int = 1, where: str = "") -> tuple[Steps, Values]:
        """The same, or NotApplicable where there are fewer than `count` readings."""
        steps, values = self.series(name, where)
        if len(steps) < count:
            place = f" at {where}" if where else ""
            reading = "reading" if len(steps) == 1 else "readings"
            is_needed = "is needed" if count == 1 else "are needed"
            raise NotApplicable(f"{len(steps)} {reading} of {name}{place}; {count} {is_needed}")
        return steps, values

    def wheres(self, name: str) -> tuple[str, ...]:
        """The places where `name` was read, in the order in which they first were."""
        return tuple(self._source.index(self.stream).get(name, ()))

    def names(self) -> tuple[str, ...]:
        """The series of this stream, in the order in which they were first read."""
        return tuple(self._source.index(self.stream))

    def width(self, name: str, where: str | None = None) -> int:
        """Values per step of a series, 0 for a scalar; of its first place where none is named."""
        places = self.wheres(name) if where is None else (where,)
        return self._source.width(self.stream, name, places[0]) if places else 0

    def last(self, name: str, where: str = "") -> float:
        """The last value of a scalar series; NaN where there is nothing."""
        step = self._source.last_step(self.stream, name, where)
        if step is None:
            return float("nan")
        _, values = self._source.window(self.stream, name, where, step, step)
        if values.ndim > 1:
            raise ValueError(f"{name} has {values.shape[1]} values per step; take series(...)[1][-1].")
        return float(values[-1]) if len(values) else float("nan")

    def events(self, kind: str | None = None) -> list[Event]:
        """Events of this stream and of the run as a whole, in the order of writing."""
        return [
            event
            for event in self._source.events()
            if event.stream in ("", self.stream) and kind in (None, event.kind)
        ]

    def overview(
        self,
        name: str,
        where: str = "",
        *,
        bins: int = 200,
        first: int | None = None,
        last: int | None = None,
    ) -> Overview:
        """At most `bins` stretches of a series: last step, smallest, mean and largest value of each.

        Of the whole series, or of its steps from `first` to `last`, both included. NaN values do not
        count; a stretch of nothing else is NaN. A vector series is seen column by column: the three are
        (stretches, width).

        A scalar series that is stored in at least a third as many chunks is told from what each chunk
        says of itself, without being opened, and one in an eighth as many from eighths of them. Then there
        are fewer stretches than `bins`, and where a stretch is of several chunks, one that holds some NaN
        weighs in its mean as if it held none.
        """
        if bins < 1:
            raise ValueError(f"an overview has at least 1 bin; got bins={bins}.")
        a, b = FIRST if first is None else first, LAST if last is None else last
        least = -(-bins // 3)
        rows = self._source.rows(self.stream, name, where, first=a, last=b, least=least)
        if rows is not None:
            return _of_summaries(rows, bins)
        if first is None and last is None:
            steps, values = self.series(name, where)
        else:
            steps, values = self._source.window(self.stream, name, where, a, b)
        return _of_points(steps, values, bins)

    @property
    def step_count(self) -> int:
        """Optimizer steps seen so far, measured or not."""
        return self._source.step_count(self.stream)

    @property
    def meta(self) -> Mapping[str, Any]:
        """Facts about the run: command, versions, seeds, hardware."""
        return self._source.meta()

    def __repr__(self) -> str:
        return f"Record({self.stream!r}, {self.step_count} steps, {len(self.names())} series)"


def _of_points(steps: Steps, values: Values, bins: int) -> Overview:
    if len(steps) <= bins:
        return steps.astype(np.float64), values, values, values
    edges = np.linspace(0, len(steps), bins + 1).astype(np.int64)[:-1]
    known = ~np.isnan(values)
    counts = np.add.reduceat(known.astype(np.float64), edges)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.add.reduceat(np.where(known, values, 0.0), edges) / counts
    low, high = np.fmin.reduceat(values, edges), np.fmax.reduceat(values, edges)
    ends = steps[np.append(edges[1:], len(steps)) - 1].astype(np.float64)
    return ends, low, mean, high


def _of_summaries(rows: NDArray[np.float64], bins: int) -> Overview:
    """Stretches of nearly equal numbers of points; a row (see SUMMARY in `loading`) is not split."""
    _, last, count, low, mean, high = rows.T
    end = np.cumsum(count)
    bin = ((end - count / 2) * (bins / end[-1])).astype(np.int64)
    begins = np.ones(len(rows), bool)
    begins[1:] = bin[1:] != bin[:-1]
    edges = np.flatnonzero(begins)
    if len(edges) == len(rows):
        return last, low, mean, high
    known = np.where(np.isnan(mean), 0.0, count)
    with np.errstate(invalid="ignore", divide="ignore"):
        weighed = np.where(known > 0, mean * count, 0.0)
        mean = np.add.reduceat(weighed, edges) / np.add.reduceat(known, edges)
    low, high = np.fmin.reduceat(low, edges), np.fmax.reduceat(high, edges)
    return last[np.append(edges[1:], len(rows)) - 1], low, mean, high
