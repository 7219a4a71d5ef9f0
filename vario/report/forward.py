"""Readings and findings of a run, handed to a Weights & Biases or MLflow run that is open.

    vario.forward("last", wandb.run)
    vario.forward("last", mlflow.active_run())

It asks neither package for anything but that run, and imports neither until then. Call it again with what
it returned, and only what is new is handed on. Weights & Biases counts one row for each step of a record,
so with a script of your own that logs by number of step, forward when that logging is done.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from vario.nouns import VarioError
from vario.record import Record, Run, open_run
from vario.record.export import FIRST_EDGE, HISTOGRAM, LAST_EDGE, WIDEST
from vario.record.runs import find_run
from vario.record.stream import Steps, Values
from vario.report.json import findings_dict

__all__ = ["Forwarded", "forward"]

Key = tuple[str, str, str]  # stream, series, place
BATCH = 1_000  # metrics that MLflow takes at once


@dataclass(frozen=True)
class Forwarded:
    """What was handed on: numbers, findings, and what the other side could not take."""

    numbers: int
    findings: int
    left_out: tuple[str, ...] = ()
    ends: Mapping[Key, int] = field(default_factory=dict, repr=False)  # last step of each series


class _Target(Protocol):
    takes_histograms: bool

    def rows(self, stream: str, rows: Iterator[tuple[int, float, dict[str, Any]]]) -> None: ...
    def findings(self, told: dict[str, Any]) -> None: ...


def forward(
    run: Run | Path | str, to: Any, *, layers: bool = False, since: Forwarded | None = None
) -> Forwarded:
    """Hand the readings of `run` (or an id, a path, "last"), and its findings, to the open run `to`.

    By default what is of the whole model, a parameter group or a data loader; with `layers`, all. Names
    become `vario/loss/train` and so on. Raises VarioError where `to` is no open run of either kind.
    """
    target = _target(to)
    if not isinstance(run, Run):
        with open_run(find_run(str(run))) as opened:
            return _forwarded(opened, target, layers, since)
    return _forwarded(run, target, layers, since)


def _forwarded(run: Run, target: _Target, layers: bool, since: Forwarded | None) -> Forwarded:
    from vario.remedies.prescribe import prescribe_all
    from vario.rules import diagnose

    records = run.records()
    ends: dict[Key, int] = dict(since.ends) if since else {}
    numbers, left_out = 0, []
    for record in records:
        several = f"{record.stream}/" if len(records) > 1 else ""
        columns: list[tuple[str, Steps, Values]] = []
        for name, where in _wanted(record, layers):
            key = (record.stream, name, where)
            steps, values = record.series(name, where)
            new = steps > ends.get(key, -(2**62))
            if len(steps):
                ends[key] = int(steps[-1])
            shown = _columns(f"vario/{several}{name}" + (f"/{where}" if where else ""), values, target)
            if shown is None:
                left_out.append(f"{name} at {where!r}" if where else name)
            columns += [(tag, steps[new], column[new]) for tag, column in shown or ()]
        numbers += sum(len(steps) for _, steps, _ in columns)
        target.rows(record.stream, _rows(record, columns))
    diagnosis = diagnose(run)
    target.findings(findings_dict(run, diagnosis, prescribe_all(diagnosis, run)))
    return Forwarded(numbers, len(diagnosis.findings), tuple(left_out), ends)


def _wanted(record: Record, layers: bool) -> Iterator[tuple[str, str]]:
    for name in record.names():
        for where in record.wheres(name):
            if layers or where == "" or re.fullmatch(r"(group|loader) \d+", where):
                yield name, where


def _columns(tag: str, values: Values, target: _Target) -> list[tuple[str, Values]] | None:
    if values.ndim == 1:
        return [(tag, values)]
    if tag.startswith("vario/") and HISTOGRAM in tag:
        return [(tag, values)] if target.takes_histograms else None
    if values.shape[1] > WIDEST:
        return None
    return [(f"{tag}/{i}", values[:, i]) for i in range(values.shape[1])]


def _rows(
    record: Record, columns: Sequence[tuple[str, Steps, Values]]
) -> Iterator[tuple[int, float, dict[str, Any]]]:
    """Step by step: the step, its time in seconds since 1970, and what was read there."""
    at = np.unique(np.concatenate([steps for _, steps, _ in columns])) if columns else np.zeros(0, np.int64)
    created = record.meta.get("created")
    begun = float(created) if isinstance(created, int | float) else time.time()
    timed, seconds = record.series("time/step")
    passed = np.cumsum(np.nan_to_num(seconds)) if len(timed) else np.zeros(0)
    places = [0] * len(columns)
    for step in at.tolist():
        row: dict[str, Any] = {}
        for number, (tag, steps, values) in enumerate(columns):
            place = places[number]
            if place < len(steps) and steps[place] == step:
                row[tag] = values[place]
                places[number] += 1
        known = int(np.searchsorted(timed, step, side="right"))
        yield step, begun + (float(passed[known - 1]) if known else 0.0), row


class _WandB:
    """An open run of Weights & Biases; steps go in a column of their own, beside its count of rows."""

    takes_histograms = True

    def __init__(self, run: Any) -> None:
        self._run = run
        self._package = import_module("wandb")

    def rows(self, stream: str, rows: Iterator[tuple[int, float, dict[str, Any]]]) -> None:
        self._run.define_metric("vario/step", hidden=True)
        self._run.define_metric("vario/*", step_metric="vario/step")
        for step, _, row in rows:
            self._run.log({"vario/step": step} | {tag: self._shown(value) for tag, value in row.items()})

    def findings(self, told: dict[str, Any]) -> None:
        columns = ["finding", "severity", "confidence", "where", "first step", "last step", "summary", "try"]
        rows = [
            [
                row["id"], row["severity"], row["confidence"], ", ".join(row["where"]), *row["steps"],
                row["summary"], next((cure["change"] for cure in row["prescriptions"]), ""),
            ]
            for row in told["findings"]
        ]  # fmt: skip
        self._run.log({"vario/findings": self._package.Table(columns=columns, data=rows)})
        self._run.summary.update({f"vario/finding/{row['id']}": row["summary"] for row in told["findings"]})

    def _shown(self, value: Any) -> Any:
        if np.ndim(value) == 0:
            return float(value)
        edges = np.linspace(FIRST_EDGE, LAST_EDGE, len(value) + 1)
        return self._package.Histogram(np_histogram=(np.nan_to_num(value).tolist(), edges.tolist()))


class _MLflow:
    """An open run of MLflow, reached through its client, whichever run is active."""

    takes_histograms = False

    def __init__(self, run: Any) -> None:
        self._entities = import_module("mlflow.entities")
        self._client = import_module("mlflow").MlflowClient()
        self._id = run.info.run_id

    def rows(self, stream: str, rows: Iterator[tuple[int, float, dict[str, Any]]]) -> None:
        batch: list[Any] = []
        for step, when, row in rows:
            batch += [
                self._entities.Metric(_plain(tag), float(value), int(1_000 * when), step)
                for tag, value in row.items()
            ]
            while len(batch) >= BATCH:
                self._client.log_batch(self._id, metrics=batch[:BATCH])
                del batch[:BATCH]
        if batch:
            self._client.log_batch(self._id, metrics=batch)

    def findings(self, told: dict[str, Any]) -> None:
        for row in told["findings"]:
            self._client.set_tag(
                self._id, f"vario.finding.{row['id']}", f"{row['severity']}: {row['summary']}"
            )
        self._client.set_tag(self._id, "vario.run", told["run"])
        self._client.log_dict(self._id, told, "vario/findings.json")


def _target(to: Any) -> _Target:
    kind = type(to).__module__.partition(".")[0]
    if kind == "wandb" and callable(getattr(to, "log", None)):
        return _WandB(to)
    info = getattr(to, "info", None)
    if kind == "mlflow" and isinstance(getattr(info, "run_id", None), str):
        return _MLflow(to)
    given = "None" if to is None else f"{type(to).__module__}.{type(to).__name__}"
    raise VarioError(
        f"forward takes an open run of Weights & Biases or MLflow, not {given}. Open one first: "
        "vario.forward(run, wandb.init(...)) or vario.forward(run, mlflow.start_run())."
    )


def _plain(tag: str) -> str:
    """MLflow takes letters, digits and a few marks in a name, and at most 250 of them."""
    return re.sub(r"[^\w\-. :/]", "_", tag)[:250]
