"""A run as a table (Parquet, CSV) or as TensorBoard's event files.

The tables are long: stream, series, where, step, bin, value, one row per number, `bin` empty for a scalar.
TensorBoard gets one directory per stream. There `gradient/log_histogram` becomes a histogram over the
decimal logarithm of the magnitude, other vectors one scalar per column; those wider than 32 are left out,
and the answer names them.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

import numpy as np

from vario.nouns import VarioError
from vario.record.reader import Run
from vario.record.stream import Record, Steps, Values

Format = Literal["parquet", "csv", "tensorboard"]
COLUMNS = ("stream", "series", "where", "step", "bin", "value")
HISTOGRAM = "gradient/log_histogram"
FIRST_EDGE, LAST_EDGE = -24.0, 8.0  # decades of gradient/log_histogram
WIDEST = 32
WINDOW = 1_000  # steps that are gathered before they are written


@dataclass(frozen=True, slots=True)
class Exported:
    """What an export wrote: where, how many numbers, and the series that its format could not take."""

    path: Path
    numbers: int
    left_out: tuple[str, ...] = ()


def export(run: Run, to: Format = "parquet", out: Path | None = None) -> Exported:
    """Writes `run` to the file `out` (for tensorboard: the directory), by default named after the run.

    Raises VarioError where the format is unknown, its package is missing, or `out` cannot be written.
    """
    writers = {"parquet": _parquet, "csv": _csv, "tensorboard": _tensorboard}
    if to not in writers:
        raise VarioError(f"there is no export to {to!r}; choose one of {', '.join(writers)}.")
    target = Path(run.id + {"parquet": ".parquet", "csv": ".csv", "tensorboard": "-tensorboard"}[to])
    if out is not None:
        target = out / target.name if to != "tensorboard" and out.is_dir() else Path(out)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        return writers[to](run, target)
    except OSError as error:
        raise VarioError(
            f"cannot write the export {target}: {error}. Choose another place with -o."
        ) from error


def _csv(run: Run, out: Path) -> Exported:
    numbers = 0
    with out.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(COLUMNS)
        for stream, name, where, steps, values in _every_series(run):
            table = values.reshape(len(steps), -1)
            bins = range(table.shape[1]) if values.ndim == 2 else ("",)
            for step, row in zip(steps.tolist(), table.tolist(), strict=True):
                rows.writerows(
                    (stream, name, where, step, bin, value) for bin, value in zip(bins, row, strict=True)
                )
            numbers += table.size
    return Exported(out, numbers)


def _parquet(run: Run, out: Path) -> Exported:
    arrow = _package("pyarrow", "pyarrow")
    parquet = _package("pyarrow.parquet", "pyarrow")
    words = arrow.dictionary(arrow.int32(), arrow.string())
    types = (words, words, words, arrow.int64(), arrow.int32(), arrow.float64())
    schema = arrow.schema(
        list(zip(COLUMNS, types, strict=True)), metadata={"vario": json.dumps(dict(run.meta))}
    )
    numbers = 0
    with parquet.ParquetWriter(out, schema) as writer:
        for stream, name, where, steps, values in _every_series(run):
            width = values.shape[1] if values.ndim == 2 else 0
            size = values.size
            constant = [
                arrow.DictionaryArray.from_arrays(np.zeros(size, np.int32), [word])
                for word in (stream, name, where)
            ]
            bins = np.tile(np.arange(width, dtype=np.int32), len(steps)) if width else None
            columns = [
                *constant,
                arrow.array(np.repeat(steps, width) if width else steps),
                arrow.array(bins) if width else arrow.nulls(size, arrow.int32()),
                arrow.array(values.reshape(-1)),
            ]
            writer.write_table(arrow.Table.from_arrays(columns, schema=schema))
            numbers += size
    return Exported(out, numbers)


def _tensorboard(run: Run, out: Path) -> Exported:
    files = _package("tensorboard.summary.writer.event_file_writer", "tensorboard")
    events = _package("tensorboard.compat.proto.event_pb2", "tensorboard")
    numbers, left_out = 0, []
    for record in run.records():
        folder = out / record.stream
        folder.mkdir(parents=True, exist_ok=True)
        shown, too_wide = _shown(record)
        left_out += [f"{name} of {record.stream}" for name in too_wide]
        clock = _clock(record)
        writer = files.EventFileWriter(str(folder))
        for start in range(-1, record.step_count, WINDOW):
            moments: dict[int, list[Any]] = {}
            for tag, histogram, steps, values in shown:
                part = slice(*np.searchsorted(steps, (start, start + WINDOW)))
                for step, value in zip(steps[part].tolist(), values[part], strict=True):
                    moments.setdefault(step, []).append(_value(tag, value, histogram))
            for step in sorted(moments):
                event = events.Event(step=step, wall_time=float(np.interp(step, *clock)))
                event.summary.value.extend(moments[step])
                writer.add_event(event)
                numbers += len(moments[step])
        writer.close()
    return Exported(out, numbers, tuple(left_out))


def _shown(record: Record) -> tuple[list[tuple[str, bool, Steps, Values]], list[str]]:
    """What TensorBoard can show: tag, whether it is a histogram, steps, values; and what it cannot."""
    shown, too_wide = [], []
    for name in record.names():
        for where in record.wheres(name):
            steps, values = record.series(name, where)
            tag = f"{name}/{where}" if where else name
            if values.ndim == 1 or name == HISTOGRAM:
                shown.append((tag, name == HISTOGRAM, steps, values))
            elif values.shape[1] > WIDEST:
                too_wide.append(tag)
            else:
                shown += [(f"{tag}/{i}", False, steps, values[:, i]) for i in range(values.shape[1])]
    return shown, too_wide


def _value(tag: str, value: Any, histogram: bool) -> Any:
    summaries = import_module("tensorboard.compat.proto.summary_pb2")
    if not histogram:
        return summaries.Summary.Value(tag=tag, simple_value=float(value))
    edges = np.linspace(FIRST_EDGE, LAST_EDGE, len(value) + 1)
    middles = (edges[1:] + edges[:-1]) / 2
    full = np.flatnonzero(value)
    proto = summaries.HistogramProto(
        min=edges[full[0]] if full.size else 0.0,
        max=edges[full[-1] + 1] if full.size else 0.0,
        num=value.sum(),
        sum=value @ middles,
        sum_squares=value @ middles**2,
        bucket_limit=edges[1:],
        bucket=value,
    )
    return summaries.Summary.Value(tag=tag, histo=proto)


def _clock(record: Record) -> tuple[Values, Values]:
    """Steps and their wall time: the start of the run plus the measured step times, as far as known."""
    created = float(record.meta.get("created", 0.0))
    steps, seconds = record.series("time/step")
    known = np.isfinite(seconds)
    if not known.any():
        return np.zeros(1), np.full(1, created)
    # A step that was not measured counts like the next one that was.
    passed = np.cumsum(seconds[known] * np.diff(steps[known], prepend=steps[known][0] - 1))
    return steps[known].astype(np.float64), created + passed


def _every_series(run: Run) -> Iterator[tuple[str, str, str, Steps, Values]]:
    for record in run.records():
        for name in record.names():
            for where in record.wheres(name):
                yield (record.stream, name, where, *record.series(name, where))


def _package(module: str, name: str) -> Any:
    try:
        return import_module(module)
    except ImportError as error:
        raise VarioError(
            f"this export needs {name}: pip install {name} (or vario[export]). {error}"
        ) from error
