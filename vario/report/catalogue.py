"""The catalogue as text and rows: what a thing means, which methods fit a need, which papers are in vario."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterable, Mapping
from typing import Any

from vario.remedies.catalog import Entry, entries, methods_for, papers
from vario.remedies.search import search

__all__ = ["explanation", "method_rows", "method_table", "paper_rows", "paper_table"]

# What each fact of a CARD is called when it is printed, in this order.
FACTS = {
    "slot": "slot",
    "treats": "treats",
    "reads": "reads",
    "inputs": "inputs",
    "output": "output",
    "cost": "cost",
    "checked": "checked against",
    "shown": "measured here",
    "changed": "departs from the paper",
}


def explanation(entry: Entry) -> str:
    """The page that ``vario explain`` prints: the docstring, the facts of the CARD, the papers."""
    lines = [f"{entry.id}  ({entry.kind})", "", *textwrap.dedent(entry.doc).strip().splitlines(), ""]
    for key, label in FACTS.items():
        if text := _fact(entry.card.get(key)):
            lines += textwrap.wrap(
                text, _width(), initial_indent=f"{label + ':':<24}", subsequent_indent=" " * 24
            )
    credits = papers()
    for number, paper in enumerate(entry.card.get("papers", ())):
        label = "paper:" if number == 0 else ""
        lines.append(f"{label:<24}{paper}  {credits[paper].title if paper in credits else '(unknown id)'}")
    if entry.kind == "finding":
        lines += _remedies(entry.id)
    return "\n".join(lines)


def method_rows(words: str, *, slot: str = "") -> list[dict[str, Any]]:
    """Methods that fit plain words or treat a finding, as data; planned ones are marked."""
    if words and words in {entry.id for entry in entries() if entry.kind == "finding"}:
        by_id = {entry.id: entry for entry in entries() if entry.kind == "method"}
        rows = [
            _method_row(by_id[method])
            if method
            else {
                "id": "",
                "title": paper.title if paper else "",
                "paper": paper.id if paper else "",
                "state": "not in vario yet",
            }
            for method, paper, _ in methods_for(words)
        ]
    else:
        rows = [_method_row(entry) for entry in search(words)]
    return [row for row in rows if not slot or row.get("slot") == slot]


def method_table(rows: Iterable[Mapping[str, Any]]) -> str:
    """The methods, one a line."""
    listed = list(rows)
    if not listed:
        return "No method fits. `vario methods` alone lists all; fewer or plainer words find more."
    width, slots = (max(len(row.get(key, "")) for row in listed) + 2 for key in ("id", "slot"))
    lines = []
    for row in listed:
        head = row["id"] or "-"
        note = "" if row["state"] == "in vario" else f" [{row['paper']}, {row['state']}]"
        lines.append(_cut(f"{head:<{width}}{row.get('slot', ''):<{slots}}{row['title']}{note}"))
    return "\n".join([*lines, "", "vario explain ID tells more."])


def paper_rows(words: str) -> list[dict[str, Any]]:
    """Papers whose id or title has all the words, as data."""
    wanted = words.lower().split()
    return [
        {
            "id": p.id,
            "title": p.title,
            "state": p.state,
            "where": list(p.cited_by),
            "place": p.place,
            "why": p.why,
        }
        for p in papers().values()
        if all(word in f"{p.id} {p.title} {p.state}".lower() for word in wanted)
    ]


def paper_table(rows: Iterable[Mapping[str, Any]]) -> str:
    """The papers, one a line, and how many stand where."""
    listed = list(rows)
    lines = []
    for row in listed:
        where = ", ".join(row["where"]) or row["state"]
        lines.append(_cut(f"{row['id']}  {where:<34} {row['title']}"))
    counts = {
        state: sum(row["state"] == state for row in listed)
        for state in ("in vario", "not in vario yet", "no code")
    }
    return "\n".join([*lines, "", ", ".join(f"{count} {state}" for state, count in counts.items())])


def _method_row(entry: Entry) -> dict[str, Any]:
    return {
        "id": entry.id,
        "title": entry.title,
        "slot": entry.card.get("slot", entry.shelf),
        "treats": list(entry.card.get("treats", ())),
        "paper": next(iter(entry.card.get("papers", ())), ""),
        "cost": _fact(entry.card.get("cost")),
        "state": "in vario",
    }


def _remedies(finding: str) -> list[str]:
    rows = methods_for(finding)
    if not rows:
        return []
    lines = ["", "Methods against it:"]
    for method, paper, available in rows:
        credit = f"{paper.id} {paper.title}" if paper else ""
        lines.append(_cut(f"  {method if available else '(not in vario yet)':<24}{credit}"))
    return lines


def _fact(value: Any) -> str:
    if not value:
        return ""
    if isinstance(value, Mapping):
        return "; ".join(f"{key}: {item}" for key, item in value.items())
    if isinstance(value, str):
        return value
    return ", ".join(map(str, value))


def _width() -> int:
    return max(60, min(120, shutil.get_terminal_size((110, 24)).columns))


def _cut(line: str) -> str:
    width = _width() if shutil.get_terminal_size((0, 0)).columns else 400
    return line if len(line) <= width else line[: width - 1] + "…"
