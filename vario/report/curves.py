"""Series made small enough to travel inside a page: at most so many buckets of (low, mean, high), packed.

A bucket keeps its smallest and largest value beside its mean, so that no spike is lost. Numbers
travel as base64 of float32; a page decodes them in a few milliseconds. Ten thousand layers would
still fill a disk, so the buckets of layer series shrink until they fit their part of the page.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vario.record import Record

__all__ = ["BUCKETS", "Curves", "Distribution", "distribution", "layer_buckets"]

BUCKETS = 1_500  # of a chart: more than the pixels of a wide screen can show
LAYER_BYTES = 1_500_000  # of all layer series of a page, before base64 makes them a third longer
SHARES = (0.05, 0.25, 0.5, 0.75, 0.95)  # the quantile lines of a distribution
EDGES = np.linspace(-24.0, 8.0, 65)  # decades; the fixed bins of gradient/log_histogram


@dataclass
class Curves:
    """The curves of a page, each kept once however many charts show it."""

    grids: list[str] = field(default_factory=list)
    curves: list[dict[str, Any]] = field(default_factory=list)
    _known: dict[tuple[str, str, str, int], int] = field(default_factory=dict)
    _highest: list[float] = field(default_factory=list)
    _grid_of: dict[bytes, int] = field(default_factory=dict)

    def add(
        self, record: Record, name: str, where: str = "", *, column: int = -1, bins: int = BUCKETS
    ) -> int:
        """The number of the curve of a series, or of one column of a vector series; -1 where it is empty."""
        key = (record.stream, name, where, column)
        if key not in self._known:
            steps, low, mean, high = record.overview(name, where, bins=bins)
            if mean.ndim == 2:
                low, mean, high = low[:, column], mean[:, column], high[:, column]
            self._known[key] = self._keep(steps, low, mean, high) if len(steps) else -1
        return self._known[key]

    def share(self, record: Record, part: str, whole: str, where: str, *, bins: int = BUCKETS) -> int:
        """The curve of one count over another, such as dead channels over channels."""
        key = (record.stream, f"{part} / {whole}", where, -1)
        if key not in self._known:
            steps, low, mean, high = record.overview(part, where, bins=bins)
            total = record.last(whole, where)
            curve = [values / total for values in (low, mean, high)] if total > 0 else []
            self._known[key] = self._keep(steps, *curve) if curve and len(steps) else -1
        return self._known[key]

    def highest(self, numbers: Iterable[int]) -> float:
        """The largest finite value of some curves."""
        return max((self._highest[number] for number in numbers), default=-np.inf)

    def _keep(self, steps: NDArray[Any], low: NDArray[Any], mean: NDArray[Any], high: NDArray[Any]) -> int:
        raw = steps.astype("<i4").tobytes()
        if raw not in self._grid_of:
            self._grid_of[raw] = len(self.grids)
            self.grids.append(_text(raw))
        curve: dict[str, Any] = {"grid": self._grid_of[raw], "mean": packed(mean)}
        if not (np.array_equal(low, mean, equal_nan=True) and np.array_equal(high, mean, equal_nan=True)):
            curve |= {"low": packed(low), "high": packed(high)}
        self.curves.append(curve)
        finite = high[np.isfinite(high)]
        self._highest.append(float(finite.max()) if len(finite) else np.inf)
        return len(self.curves) - 1


@dataclass(frozen=True, slots=True)
class Distribution:
    """Magnitudes of a gradient over time: a density per column, and quantiles in decades (log10)."""

    steps: NDArray[np.int64]
    first_edge: float
    density: NDArray[np.uint8]  # (columns, bins), 255 is the fullest bin of its column
    quantiles: NDArray[np.float64]  # (columns, SHARES)

    def packed(self) -> dict[str, Any]:
        return {
            "steps": _text(self.steps.astype("<i4").tobytes()),
            "first": self.first_edge,
            "width": float(EDGES[1] - EDGES[0]),
            "bins": int(self.density.shape[1]),
            "density": _text(self.density.tobytes()),
            "quantiles": [packed(column) for column in self.quantiles.T],
            "shares": list(SHARES),
        }


def distribution(record: Record, where: str, *, columns: int) -> Distribution | None:
    """The distribution of gradient magnitudes in at most ``columns`` columns; None where there is none."""
    steps, counts = record.series("gradient/log_histogram", where)
    if not len(steps) or counts.ndim != 2 or counts.shape[1] != len(EDGES) - 1:
        return None
    edges = np.unique(np.linspace(0, len(steps), min(columns, len(steps)) + 1).astype(int))[:-1]
    summed = np.add.reduceat(np.nan_to_num(counts, nan=0.0, posinf=0.0, neginf=0.0), edges, axis=0)
    filled = np.flatnonzero(summed.sum(axis=0) > 0)
    if not len(filled):
        return None
    a, b = int(filled[0]), int(filled[-1]) + 1
    top = summed.max(axis=1, keepdims=True)
    density = np.divide(summed[:, a:b], top, out=np.zeros_like(summed[:, a:b]), where=top > 0)
    last = steps[np.append(edges[1:], len(steps)) - 1]
    quantiles = np.array([_quantiles(row) for row in summed])
    return Distribution(last, float(EDGES[a]), np.round(255 * np.sqrt(density)).astype(np.uint8), quantiles)


def layer_buckets(series: int) -> int:
    """How many buckets each of ``series`` layer curves may have, so that all of them fit."""
    return int(np.clip(LAYER_BYTES // (12 * max(series, 1)), 40, 400))


def packed(values: NDArray[Any]) -> str:
    """Float32 in base64; what is beyond its range becomes infinite, as the page shows it anyway."""
    with np.errstate(over="ignore"):
        return _text(np.asarray(values).astype("<f4").tobytes())


def _quantiles(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Quantiles in decades, straight within a bin; nan where nothing was counted."""
    total = counts.sum()
    if not total > 0:
        return np.full(len(SHARES), np.nan)
    reached = np.concatenate([[0.0], np.cumsum(counts) / total])
    rising = np.concatenate([[True], np.diff(reached) > 0])
    first = int(np.flatnonzero(rising)[1]) - 1  # the left edge of the first filled bin
    rising[first], rising[:first] = True, False
    return np.asarray(np.interp(SHARES, reached[rising], EDGES[rising]), np.float64)


def _text(raw: bytes) -> str:
    return base64.b64encode(raw).decode("ascii")
