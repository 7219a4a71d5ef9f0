"""What the dashboard says about one run before any curve is drawn: streams, series, charts, facts, events."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from typing import Any

from vario.record import Event, Record, Run
from vario.report import charts, facts
from vario.report.examples import example_tables

__all__ = ["about", "chart_told", "events_told"]

MOST_EVENTS = 2_000
MOST_LETTERS = 2_000  # of one fact


def about(run: Run) -> dict[str, Any]:
    """The answer to /api/run/ID."""
    records = run.records()
    return {
        "id": run.id,
        "title": facts.title(run),
        "command": facts.command_line(run),
        "status": run.status,
        "ended": facts.ending(run),
        "started": _plain(run.meta.get("created")),
        "duration_s": _plain(facts.wall_seconds(run)),
        "steps": facts.steps_seen(run),
        "main": run.main.stream if records else None,
        "streams": [stream_told(record) for record in records],
        "charts": [chart_told(chart) for chart in charts.course(records)],
        "facts": {
            "settings": _settings(records),
            "environment": _environment(run),
            "cost": _cost(run, records),
            "data": _loaders(records),
            "examples": [
                asdict(table) | {"stream": record.stream}
                for record in records
                for table in example_tables(record, several=len(records) > 1)
            ],
        },
        "events": events_told(run.events()),
        "damage": list(run.damage),
    }


def stream_told(record: Record) -> dict[str, Any]:
    """A stream and its series."""
    return {
        "name": record.stream,
        "steps": record.step_count,
        "series": [
            {
                "name": name,
                "wheres": list(record.wheres(name)),
                "width": record.width(name),
            }
            for name in record.names()
        ],
    }


def chart_told(chart: charts.Chart) -> dict[str, Any]:
    """A chart as the page draws it: lines by stream, series, place and column; limits with their words."""
    return {
        "title": chart.title,
        "section": chart.section,
        "lines": [
            {
                "stream": line.record.stream,
                "name": line.name,
                "where": line.where,
                "column": line.column,
                "label": line.label,
            }
            for line in chart.lines
        ],
        "limits": [[value, label] for value, label in chart.limits],
        "span": [int(step) for step in chart.span] if chart.span else None,
        "unit": chart.unit,
    }


def events_told(events: Sequence[Event]) -> list[dict[str, Any]]:
    """Events as plain data, the latest where there are many; the long list of parameters is left out."""
    return [
        {
            "kind": event.kind,
            "step": event.step,
            "where": event.where,
            "time": event.time,
            "stream": event.stream,
            "data": {} if event.kind in ("parameters", "modules") else _plain(event.data),
        }
        for event in [one for one in events if one.kind != "example"][-MOST_EVENTS:]
    ]


def _settings(records: Sequence[Record]) -> list[list[Any]]:
    """Stream, name, value."""
    rows: list[list[Any]] = []
    for record in records:
        for event in record.events("optimizer")[:1]:
            rows.append([record.stream, "optimizer", str(event.data.get("class", ""))])
            groups = [group for group in event.data.get("groups") or [] if isinstance(group, Mapping)][:20]
            for index, group in enumerate(groups):
                head = "" if len(groups) == 1 else f"group {index}: "
                rows += [[record.stream, head + str(key), _said(value)] for key, value in group.items()]
        for event in record.events("scheduler")[:1]:
            rows += [[record.stream, f"schedule: {key}", _said(value)] for key, value in event.data.items()]
    return rows


def _loaders(records: Sequence[Record]) -> list[list[Any]]:
    """Stream, name, value; a loader that several models are trained from is told with each."""
    return [
        [record.stream, f"{event.where or 'loader'}: {key}", _said(value)]
        for record in records
        for event in record.events("loader")
        for key, value in event.data.items()
    ]


def _environment(run: Run) -> list[list[Any]]:
    rows: list[list[Any]] = []
    for key, value in run.meta.items():
        if key in ("command", "schedule"):  # said elsewhere
            continue
        if key == "created" and isinstance(value, int | float):
            value = datetime.fromtimestamp(value, tz=timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")
        if isinstance(value, Mapping):
            rows += [[f"{key}: {part}", _said(inner)] for part, inner in value.items()]
        else:
            rows.append([key.replace("_", " "), _said(value)])
    return rows


def _cost(run: Run, records: Sequence[Record]) -> list[list[Any]]:
    """Stream ("" for the whole run), name, value."""
    spent = facts.cost(run)
    rows: list[list[Any]] = []
    if math.isfinite(spent.share):
        rows.append(["", "in all", str(spent)])
    for record in records:
        rows += [
            [record.stream, name, f"{count:,} of {record.step_count:,} steps"]
            for name, count in facts.instruments(run, record).items()
        ]
    rows += [["", f"switched off: {name}", error] for name, error in facts.switched_off(run)]
    rows += [["", "not seen", what] for what in facts.unseen(run)]
    return rows


def _said(value: Any) -> Any:
    """A fact as a number or a text that is not endless."""
    plain = _plain(value)
    if plain is None or isinstance(plain, bool | int | float):
        return plain
    text = plain if isinstance(plain, str) else str(plain)
    return text if len(text) <= MOST_LETTERS else f"{text[:MOST_LETTERS]}..."


def _plain(value: Any) -> Any:
    """The same with every number that is not finite as None: JSON knows neither NaN nor infinity."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, list | tuple) else value
