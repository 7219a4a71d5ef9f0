"""The tables of a page: data, settings, environment, layers, and what watching cost. Plain HTML."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

import numpy as np

from vario.record import Record, Run
from vario.report import facts, words
from vario.report.examples import MISLABELLED, ExampleTable, Sketch, example_tables
from vario.report.finding_html import said
from vario.report.layers import layer_order

__all__ = ["cost", "data", "examples", "layer_table", "modules", "settings"]

Rows = Iterable[Sequence[str]]
MOST_CLASSES = 40
MOST_ROWS = 2_000


def data(record: Record) -> str:
    """Loaders as they were started, and how often each class was seen."""
    parts = []
    for event in record.events("loader"):
        parts.append(_pairs(event.data, said(event.where) or "loader"))
    steps, counts = record.series("batch/class_counts")
    if len(steps) and counts.ndim == 2:
        parts.append(_classes(np.nansum(counts, axis=0), len(steps)))
    return f'<div class="columns">{"".join(dict.fromkeys(parts))}</div>' if parts else ""


def examples(records: Sequence[Record], noisy: Collection[str]) -> str:
    """The single examples with the largest losses, and those forgotten most often, by their numbers.

    ``noisy``: the streams in whose data wrong labels were found.
    """
    told = ""
    for record in records:
        found = example_tables(record, several=len(records) > 1)
        hint = f'<p class="hint">{MISLABELLED}</p>' if found and record.stream in noisy else ""
        told += hint + "".join(map(_examples, found))
    return told


def _examples(table: ExampleTable) -> str:
    shown = any(table.sketches)
    head = [*table.head[:1], *(["what it is"] if shown else []), *table.head[1:]]
    body = [
        [said(row[0]), *([_sketch(sketch)] if shown else []), *(said(cell) for cell in row[1:])]
        for row, sketch in zip(table.rows, table.sketches, strict=True)
    ]
    return _table(head, body)


def _sketch(sketch: Sketch | None) -> str:
    if sketch is None:
        return ""
    if sketch.picture:
        return f'<img class="sketch" alt="" src="{sketch.picture}">'
    return f'<span class="sketch">{said(sketch.text, longest=600)}</span>'


def settings(run: Run, records: Sequence[Record]) -> str:
    """Optimizers with the settings of their groups, schedules, and the environment."""
    parts = [environment(run)]
    for record in records:
        several = f"{said(record.stream)}: " if len(records) > 1 else ""
        for event in record.events("optimizer")[:1]:
            groups = event.data.get("groups") or []
            head = several + said(str(event.data.get("class", "optimizer")))
            for index, group in enumerate(groups[:20]):
                title = head if len(groups) == 1 else f"{head}, group {index}"
                parts.append(_pairs(group if isinstance(group, Mapping) else {"group": group}, title))
        for event in record.events("scheduler")[:1]:
            parts.append(_pairs(event.data, f"{several}schedule"))
    return f'<div class="columns">{"".join(parts)}</div>' if parts else ""


def modules(records: Sequence[Record]) -> str:
    """Modules that have settings of their own."""
    parts = []
    for record in records:
        several = f"{said(record.stream)}: " if len(records) > 1 else ""
        rows = [row for event in record.events("modules")[:1] for row in event.data.get("modules", ())]
        special = [row for row in rows if len(row) > 2][:60]
        if special:
            body = [
                [said(str(row.get("name", ""))), said(str(row.get("class", ""))), _rest(row)]
                for row in special
            ]
            parts.append(_table((f"{several}module", "class", "settings"), body))
    return f"<details><summary>Modules</summary>{''.join(parts)}</details>" if parts else ""


def environment(run: Run) -> str:
    """Everything the record says about where and how the run was started."""
    flat: dict[str, Any] = {}
    for key, value in run.meta.items():
        if key == "command":
            value = facts.command_line(run)
        if key == "created" and isinstance(value, int | float):
            value = datetime.fromtimestamp(value, tz=timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")
        if key == "schedule":  # the table of instruments says the same
            continue
        if isinstance(value, Mapping):
            flat |= {f"{key}: {part}": inner for part, inner in value.items()}
        else:
            flat[key.replace("_", " ")] = value
    return _pairs(flat, "environment")


def cost(run: Run, records: Sequence[Record]) -> str:
    """What vario took, and on how many steps each instrument was read."""
    spent = facts.cost(run)
    known = np.isfinite(spent.share)
    share = f"vario took {spent}." if known else "What vario itself took was not measured."
    parts = [f"<p>{share}</p>"]
    for name, error in facts.switched_off(run):
        parts.append(
            f'<p class="off">Switched off: <code>{said(name)}</code> ({said(error, longest=200)})</p>'
        )
    parts += [f'<p class="off">Not seen: {said(what, longest=400)}.</p>' for what in facts.unseen(run)]
    for record in records:
        read = facts.instruments(run, record)
        steps = max(record.step_count, 1)
        body = [
            [said(name), f"{count:,}", f"{words.number(100 * count / steps)} %"]
            for name, count in read.items()
        ]
        head = f"instrument{f' of {said(record.stream)}' if len(records) > 1 else ''}"
        if body:
            parts.append(_table((head, "steps read", "of all"), body))
    return "".join(parts)


def layer_table(records: Sequence[Record]) -> str:
    """The last measured values of every layer: what the heat maps end with, in numbers."""
    names = ("gradient/norm", "update/ratio", "gradient/zero_share", "weight/norm")
    parts = []
    for record in records:
        body = [
            [said(where), *(_cell(name, record.last(name, where)) for name in names)]
            for where in layer_order(record, "gradient/norm")[:MOST_ROWS]
        ]
        if body:
            head = f"layer{f' of {said(record.stream)}' if len(records) > 1 else ''}"
            parts.append(
                _table((head, "gradient norm", "update over weight", "gradient 0", "weight norm"), body)
            )
    return "".join(parts)


def _cell(name: str, value: float) -> str:
    return words.amount("share" if name.endswith("share") else "", value) if not np.isnan(value) else "–"


def _classes(counts: np.ndarray, steps: int) -> str:
    total, top = float(counts.sum()) or 1.0, float(counts.max()) or 1.0
    rows = "".join(
        f'<tr><th scope="row">{index}</th><td>{count:,.0f}</td><td>{words.number(100 * count / total)} %</td>'
        f'<td class="bar"><span style="width:{100 * count / top:.1f}%"></span></td></tr>'
        for index, count in enumerate(counts[:MOST_CLASSES])
    )
    more = f"<p>and {len(counts) - MOST_CLASSES} classes more</p>" if len(counts) > MOST_CLASSES else ""
    return (
        f'<table class="classes"><caption>Labels seen on {steps:,} measured steps</caption><thead><tr>'
        '<th scope="col">class</th><th scope="col">labels</th><th scope="col">share</th><th></th></tr>'
        "</thead>"
        f"<tbody>{rows}</tbody></table>{more}"
    )


def _pairs(values: Mapping[str, Any], title: str) -> str:
    rows = "".join(
        f'<tr><th scope="row">{said(str(key))}</th><td>{_value(value)}</td></tr>'
        for key, value in values.items()
    )
    return f'<table class="pairs"><caption>{title}</caption><tbody>{rows}</tbody></table>' if rows else ""


def _table(head: Sequence[str], body: Rows) -> str:
    top = "".join(f'<th scope="col">{cell}</th>' for cell in head)
    rows = "".join(
        f'<tr><th scope="row">{row[0]}</th>{"".join(f"<td>{cell}</td>" for cell in row[1:])}</tr>'
        for row in body
    )
    return f'<div class="wide"><table><thead><tr>{top}</tr></thead><tbody>{rows}</tbody></table></div>'


def _rest(row: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{said(str(key))} {_value(value)}" for key, value in row.items() if key not in ("name", "class")
    )


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return words.number(value)
    if isinstance(value, Mapping):
        return ", ".join(f"{said(str(key))} {_value(inner)}" for key, inner in value.items())
    return said(str(value), longest=400)
