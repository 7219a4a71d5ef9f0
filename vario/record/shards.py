"""Norms of whole parameters, from the records of the processes that each hold a part.

A process that holds a shard writes `shard/...`: its share of a square, which add up over all processes. Here
they are added, at the steps that every one of them has written; a process that never came, or was lost,
leaves no reading and not a smaller one. Whoever reads a record sees `gradient/norm` and the others as usual.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from vario.record.stream import Event, Source, Steps, Values

__all__ = ["Whole"]

PREFIX = "shard/"
SUMS = {  # a series of the whole: the sums that it is made of
    "gradient/norm": ("shard/gradient",),
    "gradient/non_finite": ("shard/gradient_non_finite",),
    "weight/norm": ("shard/weight",),
    "weight/non_finite": ("shard/weight_non_finite",),
    "update/norm": ("shard/update",),
    "update/ratio": ("shard/update", "shard/weight_before"),
}
_NOTHING = (np.zeros(0, np.int64), np.zeros(0))


class Whole:
    """A source of points in which sharded norms are those of the whole; all else is as it was."""

    def __init__(self, source: Source) -> None:
        self._source = source

    def index(self, stream: str) -> Mapping[str, Sequence[str]]:
        raw = self._source.index(stream)
        if not any(name.startswith(PREFIX) for name in raw):
            return raw
        found = {name: places for name, places in raw.items() if not name.startswith(PREFIX)}
        ranks = self._ranks(stream)
        for name, (first, *_) in SUMS.items():
            if ranks and first in raw and name not in found:
                found[name] = raw[first]
        return found

    def points(self, stream: str, name: str, where: str) -> tuple[Steps, Values]:
        if not self._is_made(stream, name):
            return self._source.points(stream, name, where)
        sums = [self._sum(stream, part, where) for part in SUMS[name]]
        if len(sums) == 1:
            steps, values = sums[0]
            return steps, np.sqrt(values) if name.endswith("norm") else np.round(values)
        (steps, change), (others, before) = sums
        kept = np.intersect1d(steps, others, return_indices=True)
        change, before = change[kept[1]], before[kept[2]]
        long = before > 0
        return kept[0][long], np.sqrt(change[long] / before[long])

    def window(self, stream: str, name: str, where: str, first: int, last: int) -> tuple[Steps, Values]:
        if not self._is_made(stream, name):
            return self._source.window(stream, name, where, first, last)
        steps, values = self.points(stream, name, where)
        part = slice(int(np.searchsorted(steps, first)), int(np.searchsorted(steps, last, side="right")))
        return steps[part], values[part]

    def rows(self, stream: str, name: str, where: str, *, first: int, last: int, least: int) -> Values | None:
        if self._is_made(stream, name):
            return None
        return self._source.rows(stream, name, where, first=first, last=last, least=least)

    def last_step(self, stream: str, name: str, where: str) -> int | None:
        if not self._is_made(stream, name):
            return self._source.last_step(stream, name, where)
        steps, _ = self.points(stream, name, where)
        return int(steps[-1]) if len(steps) else None

    def width(self, stream: str, name: str, where: str) -> int:
        return 0 if self._is_made(stream, name) else self._source.width(stream, name, where)

    def events(self) -> Sequence[Event]:
        return self._source.events()

    def step_count(self, stream: str) -> int:
        return self._source.step_count(stream)

    def meta(self) -> Mapping[str, Any]:
        return self._source.meta()

    def _is_made(self, stream: str, name: str) -> bool:
        """Whether the series is one that is added up here."""
        if name not in SUMS:
            return False
        raw = self._source.index(stream)
        return SUMS[name][0] in raw and name not in raw

    def _sum(self, stream: str, name: str, where: str) -> tuple[Steps, Values]:
        """Over all processes, at the steps that all of them have."""
        parts = [self._source.points(of, name, where) for of in self._ranks(stream)]
        if not parts:
            return _NOTHING
        steps = reduce(np.intersect1d, [steps for steps, _ in parts])
        return steps, np.sum([values[np.searchsorted(at, steps)] for at, values in parts], axis=0)

    def _ranks(self, stream: str) -> tuple[str, ...]:
        """The streams of all processes that hold the parts; none where one did not come, or holds others."""
        told = {e.stream: e.data for e in self._source.events() if e.kind == "parameters"}
        model, count = stream.partition("@")[0], told.get(stream, {}).get("ranks", 0)
        ranks = tuple(f"{model}@{rank}" if rank else model for rank in range(count))
        names = {tuple(p["name"] for p in told[of]["parameters"]) if of in told else () for of in ranks}
        return ranks if len(names) == 1 and () not in names else ()
