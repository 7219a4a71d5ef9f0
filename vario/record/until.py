"""A record as it stood after so many steps: what a look at that time saw, whatever came later."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vario.record.stream import Event, Record, Source, Steps, Values

__all__ = ["until"]


def until(record: Record, steps: int) -> Record:
    """The first ``steps`` steps of ``record``; meta is that of the whole run.

    >>> from vario.record.memory import record_of
    >>> until(record_of({"loss/train": ([0, 1, 2], [2.3, 1.9, 1.4])}), 2).last("loss/train")
    1.9
    """
    return Record(_Until(record._source, steps - 1), record.stream)


class _Until:
    """A source that knows nothing after one step."""

    def __init__(self, source: Source, step: int) -> None:
        self._source, self._step = source, step
        self._index: dict[str, dict[str, list[str]]] = {}

    def index(self, stream: str) -> Mapping[str, Sequence[str]]:
        if stream not in self._index:
            there = {
                name: [where for where in places if len(self.points(stream, name, where)[0])]
                for name, places in self._source.index(stream).items()
            }
            self._index[stream] = {name: places for name, places in there.items() if places}
        return self._index[stream]

    def points(self, stream: str, name: str, where: str) -> tuple[Steps, Values]:
        steps, values = self._source.points(stream, name, where)
        count = int(np.searchsorted(steps, self._step, side="right"))
        return steps[:count], values[:count]

    def window(self, stream: str, name: str, where: str, first: int, last: int) -> tuple[Steps, Values]:
        return self._source.window(stream, name, where, first, min(last, self._step))

    def rows(self, stream: str, name: str, where: str, *, first: int, last: int, least: int) -> Values | None:
        """Nothing was summed up for just these steps."""

    def last_step(self, stream: str, name: str, where: str) -> int | None:
        steps, _ = self.points(stream, name, where)
        return int(steps[-1]) if len(steps) else None

    def width(self, stream: str, name: str, where: str) -> int:
        return self._source.width(stream, name, where)

    def step_count(self, stream: str) -> int:
        return min(self._source.step_count(stream), self._step + 1)

    def events(self) -> Sequence[Event]:
        return [event for event in self._source.events() if event.step <= self._step and event.kind != "exit"]

    def meta(self) -> Mapping[str, Any]:
        return self._source.meta()
