"""Heat maps of runs in flight: an answer reads what came since the last one, not all layers anew.

Columns are a power of two wide, so that they stay where they are while the run grows; where there are too
many, two become one. A reading counts as many steps of its column as it is the first to tell of. What is
written at a step before one that was read is missed, until the run has ended and is read whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from vario.record import Record

__all__ = ["GrowingMap"]

FINE = 16  # steps per column up to which every reading finds its own
Floats = NDArray[np.float64]
Readings = tuple[NDArray[np.float64] | NDArray[np.int64], Floats]


class GrowingMap:
    """One series of a run in flight: a row for each of its `layers`, at most `columns` columns of steps."""

    def __init__(self, record: Record, name: str, layers: Sequence[str], columns: int) -> None:
        self._record, self._name, self.layers, self._most = record, name, list(layers), columns
        self.width, self._done = 1, -1  # steps in a column; the last step that was read
        self._sums, self._weights = self._empty(0), self._empty(0)

    def rows(self) -> Floats:
        """(layers, columns): the mean of each column, NaN where nothing was read; up to now."""
        last = max(self._record.step_count - 1, 0)
        if self._done < 0:
            self._begin(last)
        else:
            self._fit(last, self._most)
            first = self._done + 1
            self._add(self._record.window(self._name, where, first=first, last=last) for where in self.layers)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(self._sums / self._weights)

    def _begin(self, last: int) -> None:
        """All that there is, from what chunks say of themselves where there are many."""
        fine = last <= FINE * self._most
        bins = last + 1 if fine else self._most
        seen = [
            self._record.overview(self._name, where, bins=bins, first=0, last=last) for where in self.layers
        ]
        # No more columns than stretches: one without a reading must mean that there was none.
        most = self._most if fine else max((len(steps) for steps, *_ in seen), default=0) or self._most
        self._fit(last, most)
        self._add((steps, mean) for steps, _, mean, _ in seen)

    def _fit(self, last: int, most: int) -> None:
        """Room for the steps up to `last`: columns are added, or two become one."""
        while last // self.width >= most:
            self.width *= 2
            self._sums, self._weights = _halved(self._sums), _halved(self._weights)
        more = last // self.width + 1 - self._sums.shape[1]
        if more > 0:
            self._sums = np.concatenate([self._sums, self._empty(more)], axis=1)
            self._weights = np.concatenate([self._weights, self._empty(more)], axis=1)

    def _empty(self, columns: int) -> Floats:
        return np.zeros((len(self.layers), columns))

    def _add(self, found: Iterable[Readings]) -> None:
        """Adds what came of each layer; layers that were read together at once."""
        alike: dict[bytes, tuple[NDArray[np.int64], list[int], list[Floats]]] = {}
        for row, (at, values) in enumerate(found):
            if len(at):
                steps = at.astype(np.int64, copy=False)
                group = alike.setdefault(steps.tobytes(), (steps, [], []))
                group[1].append(row)
                group[2].append(values if values.ndim == 1 else values.sum(axis=1))
        done = max((int(steps[-1]) for steps, *_ in alike.values()), default=self._done)
        for steps, rows, several in alike.values():
            values = np.stack(several)
            passed = np.minimum(np.diff(steps, prepend=self._done), steps % self.width + 1).astype(np.float64)
            known = values == values  # no NaN
            column = steps // self.width
            begins = np.flatnonzero(np.diff(column, prepend=-1))
            where = np.ix_(np.array(rows), column[begins])
            with np.errstate(invalid="ignore"):  # inf - inf
                self._sums[where] += np.add.reduceat(np.where(known, values * passed, 0.0), begins, axis=1)
            self._weights[where] += np.add.reduceat(known * passed, begins, axis=1)
        self._done = done


def _halved(columns: Floats) -> Floats:
    """Two columns added up as one; an odd last one stays alone."""
    if not columns.size:
        return columns
    with np.errstate(invalid="ignore"):  # inf - inf
        return np.asarray(np.add.reduceat(columns, range(0, columns.shape[1], 2), axis=1))
