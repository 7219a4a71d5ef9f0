"""Numbers of whole parameters, from the records of the processes that each hold a part.

A process that holds a shard writes `shard/...`: its share of squares, sums and counts, which add up over all
processes. Here they are added, at the steps that every one of them has written; a process that never came,
or was lost, leaves no reading and not a smaller one. Whoever reads a record sees `gradient/norm` and the
others as usual; so it is with what ranks that hold the same parameters tell of their examples (``ranks``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from vario.record.ranks import AVERAGED, JOINED

if TYPE_CHECKING:
    from vario.record.stream import Event, Source, Steps, Values

__all__ = ["Whole"]

PREFIX = "shard/"


class _Made(NamedTuple):
    """A series of the whole: of these parts, each (processes, steps) or (processes, steps, width).

    ``of`` may leave NaN where there is nothing to tell; with ``silent`` such steps have no reading.
    """

    parts: tuple[str, ...]
    of: Callable[..., Values]
    silent: bool = False
    width: int = 0


def _length(squares: Values) -> Values:
    return np.asarray(np.sqrt(squares.sum(axis=0)))


def _whole_number(counts: Values) -> Values:
    return np.asarray(np.round(counts.sum(axis=0)))


def _ratio(changes: Values, lengths: Values) -> Values:
    return np.asarray(np.sqrt(_over(changes.sum(axis=0), lengths.sum(axis=0))))


def _mean(moments: Values) -> Values:
    count, total = moments.sum(axis=0)[:, :2].T
    return _over(total, count)


def _deviation(moments: Values) -> Values:
    """The squares about the means of the parts, and those of the means about that of the whole."""
    count, total, about = np.moveaxis(moments[..., :3], -1, 0)
    means = np.where(count > 0, _over(total, count), 0.0)
    squares = about.sum(axis=0) + (count * (means - _mean(moments)) ** 2).sum(axis=0)
    return np.asarray(np.sqrt(_over(squares, count.sum(axis=0))))


def _largest(moments: Values) -> Values:
    return np.asarray(moments[..., 3].max(axis=0))


def _zero_share(moments: Values) -> Values:
    added = moments.sum(axis=0)
    return _over(added[:, 4], added[:, 0])


def _signal(pairs: Values) -> Values:
    return np.asarray(pairs.sum(axis=0)[:, 0])


def _noise(pairs: Values) -> Values:
    return np.asarray(pairs.sum(axis=0)[:, 1])


def _share(pairs: Values) -> Values:
    seen, everything = pairs.sum(axis=0).T
    return _over(seen, everything)


def _over(a: Values, b: Values) -> Values:
    return np.divide(a, b, out=np.full_like(a, np.nan), where=b > 0)


def _placed(steps: Steps, at: Steps, values: Values) -> Values:
    """The values at these steps, NaN where there is none."""
    found = np.full((len(steps), *values.shape[1:]), np.nan)
    found[np.searchsorted(steps, at)] = values
    return found


_OF_GRADIENT, _OF_WEIGHT = ("shard/gradient_moments",), ("shard/weight_moments",)
MADE = {
    "gradient/norm": _Made(("shard/gradient",), _length),
    "gradient/non_finite": _Made(("shard/gradient_non_finite",), _whole_number),
    "gradient/mean": _Made(_OF_GRADIENT, _mean),
    "gradient/std": _Made(_OF_GRADIENT, _deviation),
    "gradient/largest": _Made(_OF_GRADIENT, _largest),
    "gradient/zero_share": _Made(_OF_GRADIENT, _zero_share),
    "gradient/log_histogram": _Made(("shard/gradient_log_histogram",), _whole_number, width=64),
    "weight/norm": _Made(("shard/weight",), _length),
    "weight/std": _Made(_OF_WEIGHT, _deviation),
    "weight/non_finite": _Made(("shard/weight_non_finite",), _whole_number),
    "gradient_noise/signal": _Made(("shard/example_noise",), _signal),
    "gradient_noise/noise": _Made(("shard/example_noise",), _noise),
    "gradient_noise/seen_share": _Made(("shard/example_seen",), _share, silent=True),
    "gradient_parts/signal": _Made(("shard/part_noise",), _signal),
    "gradient_parts/noise": _Made(("shard/part_noise",), _noise),
    "update/norm": _Made(("shard/update",), _length),
    "update/ratio": _Made(("shard/update", "shard/weight_before"), _ratio, silent=True),
}
_NOTHING = (np.zeros(0, np.int64), np.zeros(0))


class Whole:
    """A source of points in which what processes tell of their parts is of the whole; the rest as it was."""

    def __init__(self, source: Source) -> None:
        self._source = source

    def index(self, stream: str) -> Mapping[str, Sequence[str]]:
        raw = self._source.index(stream)
        if not any(name.startswith(PREFIX) for name in raw):
            return raw
        found = {name: places for name, places in raw.items() if not name.startswith(PREFIX)}
        ranks = self._ranks(stream)
        for name, made in MADE.items():
            if ranks and made.parts[0] in raw and name not in found:
                found[name] = raw[made.parts[0]]
        return found

    def points(self, stream: str, name: str, where: str) -> tuple[Steps, Values]:
        if not self._is_added(stream, name):
            joined = self._is_joined(stream, name)
            return (self._join if joined else self._source.points)(stream, name, where)
        made, ranks = MADE[name], self._ranks(stream)
        found = [[self._source.points(of, part, where) for of in ranks] for part in made.parts]
        steps = reduce(np.intersect1d, [at for part in found for at, _ in part]) if ranks else _NOTHING[0]
        if not len(steps):
            return _NOTHING
        values = made.of(*(np.stack([of[np.searchsorted(at, steps)] for at, of in part]) for part in found))
        told = ~np.isnan(values) if made.silent else slice(None)
        return steps[told], values[told]

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
        if self._is_added(stream, name):
            return MADE[name].width
        return self._source.width(stream, name, where)

    def events(self) -> Sequence[Event]:
        return self._source.events()

    def step_count(self, stream: str) -> int:
        return self._source.step_count(stream)

    def meta(self) -> Mapping[str, Any]:
        return self._source.meta()

    def _is_made(self, stream: str, name: str) -> bool:
        return self._is_added(stream, name) or self._is_joined(stream, name)

    def _is_added(self, stream: str, name: str) -> bool:
        """Whether the series is one of wholes that shares are added up to."""
        if name not in MADE:
            return False
        raw = self._source.index(stream)
        return MADE[name].parts[0] in raw and name not in raw

    def _is_joined(self, stream: str, name: str) -> bool:
        """Whether ranks that average their gradients each have read a part of it."""
        if name not in JOINED or AVERAGED not in self._source.index(stream):
            return False
        return bool((self._source.points(stream, AVERAGED, "")[1] > 1).any())

    def _join(self, stream: str, name: str, where: str) -> tuple[Steps, Values]:
        parts, of = JOINED[name]
        model = stream.partition("@")[0]
        told = {e.stream: e.data["parameters"] for e in self._source.events() if e.kind == "parameters"}
        mine = [p["name"] for p in told.get(stream, ())]
        ranks = [
            one
            for one, parameters in told.items()
            if one == stream or (one.partition("@")[0] == model and [p["name"] for p in parameters] == mine)
        ]
        found = [[self._source.points(rank, part, where) for rank in ranks or [stream]] for part in parts]
        here = [of_rank for of_rank in zip(*found, strict=True) if all(len(at) for at, _ in of_rank)]
        if not here:
            return _NOTHING
        steps = reduce(np.union1d, [at for of_rank in here for at, _ in of_rank])
        placed = [[_placed(steps, *part) for part in of_rank] for of_rank in here]
        return steps, of(*(np.stack(part) for part in zip(*placed, strict=True)))

    def _ranks(self, stream: str) -> tuple[str, ...]:
        """The streams of all processes that hold the parts; none where one did not come, or holds others."""
        told = {e.stream: e.data for e in self._source.events() if e.kind == "parameters"}
        model, count = stream.partition("@")[0], told.get(stream, {}).get("ranks", 0)
        ranks = tuple(f"{model}@{rank}" if rank else model for rank in range(count))
        names = {tuple(p["name"] for p in told[of]["parameters"]) if of in told else () for of in ranks}
        return ranks if len(names) == 1 and () not in names else ()
