"""Curves, heat maps and distributions of a run as the page asks for them, in bytes."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vario.record import Record
from vario.report.curves import EDGES, SHARES, distribution
from vario.report.layers import layer_order
from vario.ui.binary import envelope
from vario.ui.maps import FINE, GrowingMap

__all__ = ["Line", "csv_lines", "distribution_reply", "growing_reply", "heatmap_reply", "series_reply"]

COLUMNS = ("step", "mean", "low", "high")
Window = tuple[int | None, int | None]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Line:
    """One curve that is asked for: a series of a stream at a place; `column` of a vector series."""

    record: Record
    name: str
    where: str
    column: int = 0


def series_reply(lines: Sequence[Line], *, window: Window, points: int) -> bytes:
    """Each line's step, mean, low and high: reading by reading where they fit, else stretch by stretch."""
    arrays: list[Floats] = []
    counts = []
    for line in lines:
        steps, low, mean, high = line.record.overview(
            line.name, line.where, bins=points, first=window[0], last=window[1]
        )
        if mean.ndim == 2:
            low, mean, high = (part[:, min(line.column, part.shape[1] - 1)] for part in (low, mean, high))
        counts.append(len(steps))
        arrays += [steps, mean, low, high]
    header = {
        "lines": [[line.record.stream, line.name, line.where, line.column] for line in lines],
        "columns": COLUMNS,
        "counts": counts,
        "steps": max((line.record.step_count for line in lines), default=0),
    }
    return envelope(header, arrays)


def heatmap_reply(record: Record, name: str, *, window: Window, columns: int, over: str = "") -> bytes:
    """One row per layer in the order of the model, one column per stretch of steps; NaN where none was read.

    All rows share their columns. A stretch without a reading stays empty: the page holds a colour or not.
    `over` names a series whose last value divides each row: dead channels over channels.
    """
    layers = layer_order(record, name)
    first = window[0] if window[0] is not None else 0
    last = window[1] if window[1] is not None else max(record.step_count - 1, first)
    length = max(last - first + 1, 1)
    fine = length <= FINE * columns
    seen = [
        record.overview(name, where, bins=length if fine else columns, first=window[0], last=window[1])
        for where in layers
    ]
    if not fine:  # no more columns than stretches: one without a reading must mean that there was none
        columns = max((len(steps) for steps, *_ in seen), default=columns) or 1
    edges = np.linspace(first, last + 1, min(columns, length) + 1)
    rows = np.full((len(layers), len(edges) - 1), np.nan)
    before, at = np.zeros(0), np.zeros(0, np.intp)
    for row, where, (steps, _, mean, _) in zip(rows, layers, seen, strict=True):
        if not np.array_equal(steps, before):  # layers are mostly read together
            before, at = steps, np.searchsorted(edges[1:-1], steps, side="right")
        value = mean if mean.ndim == 1 else mean.sum(axis=1)
        known = value == value  # no NaN
        here, value = (at, value) if known.all() else (at[known], value[known])
        counts = np.bincount(here, minlength=len(row))
        whole = record.last(over, where) if over else 1.0
        with np.errstate(invalid="ignore", divide="ignore"):  # inf - inf; a stretch without a reading
            row[:] = np.bincount(here, value, len(row)) / counts / (whole if whole > 0 else np.nan)
    header = {"layers": layers, "steps": np.ceil(edges[1:] - 1).astype(int).tolist(), "first": int(first)}
    return envelope(header, [rows], "<f4")


def growing_reply(record: Record, found: GrowingMap, *, over: str = "") -> bytes:
    """The same of a run in flight, from what is kept of it; its last column is not full yet."""
    rows = found.rows()
    if over:
        whole = np.array([record.last(over, where) for where in found.layers]).reshape(-1, 1)
        rows = np.divide(rows, whole, out=np.full_like(rows, np.nan), where=whole > 0)
    ends = np.arange(1, rows.shape[1] + 1) * found.width - 1
    ends[-1:] = max(record.step_count - 1, 0)
    return envelope({"layers": found.layers, "steps": ends.tolist(), "first": 0}, [rows], "<f4")


def distribution_reply(record: Record, where: str, *, columns: int) -> bytes:
    """How large the entries of the gradient were: quantiles in decades, then a density 0..255 per column."""
    found = distribution(record, where, columns=columns)
    if found is None:
        return envelope({"where": where, "steps": [], "bins": 0}, [])
    header = {
        "where": where,
        "steps": found.steps.tolist(),
        "first": found.first_edge,
        "width": float(EDGES[1] - EDGES[0]),
        "bins": int(found.density.shape[1]),
        "shares": list(SHARES),
    }
    return envelope(header, [found.quantiles.T, found.density.astype(np.float64)], "<f4")


def csv_lines(record: Record, name: str, *, wheres: Sequence[str]) -> Iterator[str]:
    """The readings of some places as a table: step, where, bin (of a vector), value."""
    text = io.StringIO()
    rows = csv.writer(text)
    rows.writerow(("step", "where", "bin", "value"))
    for where in wheres:
        steps, values = record.series(name, where)
        for step, value in zip(steps.tolist(), values.tolist(), strict=True):
            pairs = enumerate(value) if isinstance(value, list) else [("", value)]
            rows.writerows((step, _harmless(where), bin, number) for bin, number in pairs)
            if text.tell() > 1 << 16:
                yield text.getvalue()
                text.seek(0)
                text.truncate()
    yield text.getvalue()


def _harmless(text: str) -> str:
    """A spreadsheet runs a cell that begins like a formula; a leading quote makes it text."""
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text
