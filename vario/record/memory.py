"""A Record made of arrays, without a file: for tests of rules, and for those who keep their own logs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from vario.record.stream import Event, Record, Steps, Values

_NOTHING: tuple[Steps, Values] = (np.zeros(0, np.int64), np.zeros(0))


def record_of(
    series: Mapping[str | tuple[str, str], tuple[ArrayLike, ArrayLike]],
    *,
    events: Sequence[Event] = (),
    meta: Mapping[str, Any] | None = None,
    stream: str = "model",
) -> Record:
    """A Record of `series`: name, or (name, where), to (steps, values).

    >>> record = record_of({"loss/train": ([0, 1, 2], [2.3, 1.9, 1.4])})
    >>> record.last("loss/train"), record.step_count
    (1.4, 3)
    """
    points = {}
    for key, (steps, values) in series.items():
        name, where = (key, "") if isinstance(key, str) else key
        points[name, where] = _points(name, np.asarray(steps), np.asarray(values, np.float64))
    return Record(_Memory(points, tuple(events), dict(meta or {})), stream)


def _points(name: str, steps: Any, values: Values) -> tuple[Steps, Values]:
    if steps.ndim != 1 or values.ndim not in (1, 2) or len(values) != len(steps):
        raise ValueError(
            f"{name} has steps {steps.shape} and values {values.shape}; (n,) and (n,) or (n, width) fit."
        )
    order = np.argsort(steps, kind="stable")
    steps, values = steps[order].astype(np.int64), values[order]
    steps.setflags(write=False)
    values.setflags(write=False)
    return steps, values


class _Memory:
    def __init__(
        self,
        points: dict[tuple[str, str], tuple[Steps, Values]],
        events: tuple[Event, ...],
        meta: dict[str, Any],
    ) -> None:
        self._points, self._events, self._meta = points, events, meta

    def index(self, stream: str) -> dict[str, list[str]]:
        names: dict[str, list[str]] = {}
        for name, where in self._points:
            names.setdefault(name, []).append(where)
        return names

    def points(self, stream: str, name: str, where: str) -> tuple[Steps, Values]:
        return self._points.get((name, where), _NOTHING)

    def window(self, stream: str, name: str, where: str, first: int, last: int) -> tuple[Steps, Values]:
        steps, values = self.points(stream, name, where)
        part = slice(int(np.searchsorted(steps, first)), int(np.searchsorted(steps, last, side="right")))
        return steps[part], values[part]

    def rows(self, stream: str, name: str, where: str, *, first: int, last: int, least: int) -> None:
        """Everything is at hand: nothing was summed up."""

    def last_step(self, stream: str, name: str, where: str) -> int | None:
        steps, _ = self.points(stream, name, where)
        return int(steps[-1]) if len(steps) else None

    def width(self, stream: str, name: str, where: str) -> int:
        values = self.points(stream, name, where)[1]
        return int(values.shape[1]) if values.ndim == 2 else 0

    def events(self) -> tuple[Event, ...]:
        return self._events

    def step_count(self, stream: str) -> int:
        last = [int(steps[-1]) for steps, _ in self._points.values() if len(steps)]
        return max([*last, *(event.step for event in self._events)], default=-1) + 1

    def meta(self) -> dict[str, Any]:
        return self._meta
