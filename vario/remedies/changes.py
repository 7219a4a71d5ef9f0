"""A plain change that a finding asks for, and the readings from which its number is computed.

A number is given only where the record yields it, with the reason beside it; what cannot be
computed is said as what to look at. The functions of the ``changes_*`` files make the changes,
one per finding; this file holds what they share.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vario.nouns import Evidence, Finding
from vario.record import Record
from vario.rules._evidence import spikes
from vario.rules._wild_batches import suspects

__all__ = [
    "Change",
    "Maker",
    "broken_batch",
    "event_rows",
    "evidence",
    "hyper",
    "in_common",
    "listed",
    "loader",
    "median",
    "modules",
    "optimizer",
    "place",
    "sized",
    "spiking",
    "steps_alike",
    "steps_per_epoch",
    "within",
]

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Change:
    """``text`` says what to change, to what, and why; ``setting`` is what ``--set`` of a trial takes."""

    text: str
    setting: str = ""
    paper: str = ""


Maker = Callable[[Finding, Record], list[Change]]


def within(record: Record, name: str, steps: tuple[int, int], where: str = "") -> Floats:
    """The finite values of a scalar series between two steps, both included."""
    at, values = record.series(name, where)
    keep = (at >= steps[0]) & (at <= steps[1])
    chosen = values[keep]
    return chosen[np.isfinite(chosen)] if chosen.ndim == 1 else chosen


def median(record: Record, name: str, steps: tuple[int, int] | None = None, where: str = "") -> float:
    """The median of the finite values, over the whole record or between two steps; nan where there is"
    " none."""
    values = within(record, name, steps or (-1, 2**62), where)
    return float(np.median(values)) if len(values) else float("nan")


def spiking(record: Record) -> str:
    """The steps whose loss stands out among those before, as words; "" where none does."""
    steps, values = record.series("loss/train")
    known = np.isfinite(values)
    return steps_alike(steps[known][spikes(values[known], 8.0)].tolist())


def steps_alike(steps: Sequence[int], *, named: int = 6, sure: int = 5) -> str:
    """Steps at which the same happened, as words; "" for none.

    That they come at equal distances is said of ``sure`` or more: of so few one in a hundred does by chance.
    """
    if not steps:
        return ""
    apart = math.gcd(*(b - a for a, b in pairwise(steps)))
    regular = f", which are multiples of {apart} steps apart" if len(steps) >= sure <= apart else ""
    return listed(steps, named) + regular


def listed(numbers: Sequence[object], most: int) -> str:
    """The first ``most``, and how many more there are."""
    more = f" and {len(numbers) - most} more" if len(numbers) > most else ""
    return ", ".join(map(str, numbers[:most])) + more


def broken_batch(record: Record, *, named: int = 32) -> str:
    """What the first batch held whose loss was no number, as words; "" where that is not known."""
    for event in record.events("wild_batch"):
        if event.data["loss"] is None:
            return (
                f"; the first loss that is no number, of step {event.data['step']}, was of the examples"
                f" {listed(event.data['examples'], named)} of the data set of {event.where}"
            )
    return ""


def in_common(record: Record, *, named: int = 6) -> str:
    """The examples that the batches whose loss stands out had in common, as words; "" where none is known."""
    found = suspects(record)
    if not found:
        return ""
    first = found[0]
    alike = [one.example for one in found if one[:1] + one[2:] == first[:1] + first[2:]]
    held = f"{first.held} of the {first.batches}" if first.held < first.batches else f"all {first.batches}"
    which, was = ("example", "was") if len(alike) == 1 else ("examples", "were")
    these = f"{which} {listed(alike, named)} of the data set of {first.loader}"
    return f"; {these} {was} in {held} such batches that are known"


def hyper(record: Record, quantity: str) -> float:
    """A setting of the optimizer's first group; of a scheduled one the largest value, which is the one"
    " typed."""
    wheres = record.wheres(f"hyper/{quantity}")
    if not wheres:
        return float("nan")
    values = within(record, f"hyper/{quantity}", (-1, 2**62), sorted(wheres)[0])
    return float(values.max()) if len(values) else float("nan")


def evidence(finding: Finding, *words: str) -> Evidence | None:
    """The first evidence whose name has all the words."""
    for item in finding.evidence:
        if all(word in item.name for word in words):
            return item
    return None


def optimizer(record: Record) -> str:
    """The class of the stream's optimizer, "" where it is not known."""
    for data in event_rows(record, "optimizer"):
        return str(data.get("class", ""))
    return ""


def modules(record: Record, *words: str) -> list[dict[str, Any]]:
    """Modules whose class has one of the words, as (name, class, settings); all without words."""
    return [
        row
        for row in event_rows(record, "modules")
        if not words or any(word in str(row.get("class", "")) for word in words)
    ]


def exchange(record: Record, by: str, *kinds: str) -> str:
    """The setting of a trial that puts layers of class ``by`` in the place of those of one of ``kinds``.

    "" where there are several kinds, and where one gives the model's output, whose range it sets.
    """
    rows = modules(record)
    found = {str(row.get("class")) for row in rows} & set(kinds)
    if len(found) != 1 or rows[-1].get("class") in found:
        return ""
    return f"layer.{found.pop()}={by}"


def loader(record: Record) -> dict[str, Any]:
    """What is known of the training loader: the first that was started."""
    return next(event_rows(record, "loader"), {})


def sized(record: Record, batch: float, rate: str = "") -> str:
    """The setting of a trial with batches of that size, and a rate with them; "" without a loader to tell."""
    if not loader(record):
        return ""
    return f"loader.batch_size={batch:.0f}" + (f"+{rate}" if rate else "")


def steps_per_epoch(record: Record) -> int:
    """Steps between the starts of the first two epochs; 0 where fewer than two were seen."""
    starts = sorted({event.step for event in record.events("epoch") if event.step is not None})
    gaps = [later - earlier for earlier, later in zip(starts, starts[1:], strict=False) if later > earlier]
    return int(np.median(gaps)) if gaps else 0


def event_rows(record: Record, kind: str) -> Iterator[dict[str, Any]]:
    """The data of the events of a kind, flattened where an event carries a list of rows."""
    for event in record.events(kind):
        rows = event.data
        if isinstance(rows, dict) and isinstance(rows.get(kind), list):
            rows = rows[kind]
        for row in rows if isinstance(rows, list) else [rows]:
            if isinstance(row, dict):
                yield row


def place(finding: Finding) -> str:
    """The places of a finding for a sentence, at most three by name."""
    named = [where for where in finding.where if where]
    if not named:
        return "the model"
    return listed(named, 3)
