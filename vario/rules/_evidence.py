"""Small statistics that rules share: a level, a trend, a share, spikes, each with its interval.

Readings of one run depend on each other, so intervals are taken over blocks of neighbours, not
over single readings. Everything is exact arithmetic on ranks: no draws, no assumptions of shape.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from vario.nouns import Evidence, NotApplicable

Floats = NDArray[np.float64]
Steps = NDArray[np.int64]
Mask = NDArray[np.bool_]

__all__ = [
    "Estimate",
    "confidence",
    "exactly",
    "finite",
    "first_step",
    "level",
    "need_finite",
    "reach",
    "reaching",
    "share",
    "spikes",
    "tail",
    "trend",
]


_REACH: ContextVar[float] = ContextVar("reach", default=1.96)


def reach() -> float:
    """Standard errors from the middle of an interval to its ends: 1.96 (95 %), more where looks repeat."""
    return _REACH.get()


@contextmanager
def reaching(errors: float) -> Iterator[None]:
    """Intervals made inside reach this many standard errors to either side."""
    before = _REACH.set(errors)
    try:
        yield
    finally:
        _REACH.reset(before)


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value with the interval that holds it with 95 % confidence."""

    value: float
    low: float
    high: float

    def evidence(self, name: str, limit: float, where: str = "") -> Evidence:
        return Evidence(name, self.value, self.low, self.high, limit, where)


def exactly(name: str, value: float, limit: float, where: str = "") -> Evidence:
    """Evidence that was counted or read, not estimated."""
    return Evidence(name, float(value), float(value), float(value), limit, where)


def confidence(value: float, limit: float, *, least: float = 0.6, most: float = 0.95) -> float:
    """How sure a finding is that lies past its limit: ``least`` at the limit, ``most`` at ten times it."""
    if not np.isfinite(value) or value <= 0 or limit <= 0:
        return most
    past = min(abs(np.log10(value / limit)), 1.0)
    return round(float(least + (most - least) * past), 3)


def finite(steps: Steps, values: Floats) -> tuple[Steps, Floats]:
    """The readings that are numbers."""
    keep = np.isfinite(values)
    return steps[keep], values[keep]


def need_finite(steps: Steps, values: Floats, count: int, name: str) -> tuple[Steps, Floats]:
    """The finite readings, or NotApplicable where fewer than ``count`` of them are finite."""
    steps, values = finite(steps, values)
    if len(values) < count:
        raise NotApplicable(f"{len(values)} finite readings of {name}; {count} are needed")
    return steps, values


def tail(values: Floats, part: float = 0.1, at_least: int = 10, at_most: int = 500) -> Floats:
    """The last readings: a share ``part`` of them, within bounds."""
    count = min(max(int(len(values) * part), at_least), at_most, len(values))
    return values[len(values) - count :]


def level(values: Floats, blocks: int = 20) -> Estimate:
    """Median, and its interval by ranks of block medians (20 blocks: ranks 6 and 15, 95.9 %).

    With fewer than six blocks no such interval exists; the smallest and largest stand for it.
    """
    if not len(values):
        return Estimate(np.nan, np.nan, np.nan)
    medians = np.sort(_block_medians(values, blocks))
    count = len(medians)
    # Normal approximation to the binomial ranks of a median; exact enough from six blocks on.
    ranks = int(np.ceil(reach() / 2 * np.sqrt(count))) if count >= 6 else count
    low = medians[max(count // 2 - ranks, 0)]
    high = medians[min((count - 1) // 2 + ranks, count - 1)]
    middle = float(np.median(values))
    return Estimate(middle, min(float(low), middle), max(float(high), middle))


def trend(steps: Steps, values: Floats, blocks: int = 40) -> Estimate:
    """Change over the whole window along the Theil-Sen line, with Sen's rank interval (of five or more).

    The unit is that of ``values``: the slope times the span of the steps.
    """
    if len(values) < 3:
        return Estimate(np.nan, -np.inf, np.inf)
    y = _block_medians(values, blocks)
    x = _block_medians(steps.astype(np.float64), blocks)
    first, second = np.triu_indices(len(y), 1)
    run = x[second] - x[first]
    keep = run > 0
    slopes = np.sort((y[second] - y[first])[keep] / run[keep])
    if not len(slopes):
        return Estimate(np.nan, -np.inf, np.inf)
    dropped = min(_dropped(len(y), reach()), (len(slopes) - 1) // 2)
    span = float(steps[-1] - steps[0])
    return Estimate(
        float(np.median(slopes)) * span,
        float(slopes[dropped]) * span if dropped >= 0 else -np.inf,
        float(slopes[-1 - dropped]) * span if dropped >= 0 else np.inf,
    )


@cache
def _dropped(count: int, errors: float) -> int:
    """How many of the steepest slopes between ``count`` readings lie beyond the interval at either end.

    -1 where not even all of them reach: with four readings or fewer at 95 %. By the number of inversions of
    a random order (Kendall, Biometrika 1938), exactly.
    """
    orders = np.ones(1)
    for more in range(2, count + 1):
        orders = np.convolve(orders, np.ones(more)) / more
    return int(np.searchsorted(orders.cumsum(), math.erfc(errors / math.sqrt(2)) / 2, side="right")) - 1


def share(mask: Mask | Sequence[bool]) -> Estimate:
    """How often something holds, with Wilson's interval."""
    n = len(mask)
    if not n:
        return Estimate(np.nan, 0.0, 1.0)
    p, z = float(np.mean(mask)), reach()
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return Estimate(p, max(0.0, float(middle - half)), min(1.0, float(middle + half)))


def first_step(steps: Steps, mask: Mask, lasting: int = 1) -> int | None:
    """The first step from which ``mask`` holds for ``lasting`` readings in a row, if any."""
    if len(mask) < lasting:
        return None
    windows = np.lib.stride_tricks.sliding_window_view(mask, lasting).all(axis=1)
    where = np.flatnonzero(windows)
    return int(steps[where[0]]) if len(where) else None


def spikes(values: Floats, times: float, window: int = 50) -> Mask:
    """Readings that stand ``times`` usual deviations above the readings before them.

    The usual is the median and the median absolute deviation of the block of ``window`` readings
    before; the first block is never judged, since nothing came before it.
    """
    n = len(values)
    found = np.zeros(n, dtype=bool)
    blocks = n // window
    if blocks < 2:
        return found
    past = values[: blocks * window].reshape(blocks, window)
    middle = np.median(past, axis=1)
    spread = 1.4826 * np.median(np.abs(past - middle[:, None]), axis=1)
    # A constant block has no spread of its own: rounding must not count as a spike.
    spread = np.maximum(spread, 1e-3 * np.abs(middle) + 1e-12)
    before = np.minimum(np.arange(n) // window - 1, blocks - 1)
    judged = before >= 0
    found[judged] = values[judged] > (middle + times * spread)[before[judged]]
    return found


def _block_medians(values: Floats, blocks: int) -> Floats:
    """Medians of at most ``blocks`` contiguous blocks of nearly equal size."""
    count = min(blocks, len(values))
    edges = np.linspace(0, len(values), count + 1).astype(int)
    return np.array([np.median(values[a:b]) for a, b in zip(edges[:-1], edges[1:], strict=True)])
