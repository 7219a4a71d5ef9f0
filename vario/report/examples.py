"""The single examples of a run as tables: those it did worst on, and those it forgot most often.

Where the run was asked to keep examples (`--keep-examples`), each has a sketch: a small picture, the
beginning of a text, or the first numbers of its input.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vario.report.words import amount, clean, number
from vario.rules._forgotten import Forgotten, forgotten
from vario.rules._worst_examples import Worst, worst_examples

if TYPE_CHECKING:
    from vario.record import Record

__all__ = ["MISLABELLED", "ExampleTable", "Sketch", "example_tables"]

PICTURE = re.compile(r"data:image/png;base64,[A-Za-z0-9+/]+=*")
LONGEST = 600  # letters of a text
MISLABELLED = (
    "Part of the labels of this data is wrong: the examples below that were always guessed wrong are likely"
    " mislabelled."
)


@dataclass(frozen=True, slots=True)
class Sketch:
    """What an example looks like: a picture as a data address, or words; the other is ""."""

    picture: str = ""
    text: str = ""


@dataclass(frozen=True, slots=True)
class ExampleTable:
    """Cells as texts; one sketch for each row, None where none was kept."""

    head: list[str]
    rows: list[list[str]]
    sketches: list[Sketch | None]


def example_tables(record: Record, *, several: bool = False) -> list[ExampleTable]:
    """Those that have rows; `several`: say which stream it is."""
    kept = _kept(record)
    of = f" of {clean(record.stream, longest=60)}" if several else ""
    worst, lost = worst_examples(record), forgotten(record)
    found: list[tuple[tuple[list[str], list[list[str]]], Sequence[Worst | Forgotten]]]
    found = [(_worst(worst, of), worst), (_forgotten(lost, of), lost)]
    return [
        ExampleTable(*told, [kept.get((one.loader, one.example)) for one in ones])
        for told, ones in found
        if ones
    ]


def _worst(found: list[Worst], of: str) -> tuple[list[str], list[list[str]]]:
    """What it should be and what was said come first: they are read beside the picture."""
    classes = any(math.isfinite(one.guess) for one in found)
    said = ["guess", "probability of the target", "guessed wrong"] if classes else []
    head = [f"worst example{of}", "target", *said, "loss", "looks", "data set of"]
    rows = []
    for one in found:
        wrong = "always" if one.wrong == one.looks else f"{one.wrong} of {one.looks}"
        more = [number(one.guess), amount("probability", one.probability), wrong] if classes else []
        last = [number(one.loss), str(one.looks), clean(one.loader)]
        rows.append([str(one.example), number(one.target), *more, *last])
    return head, rows


def _forgotten(found: list[Forgotten], of: str) -> tuple[list[str], list[list[str]]]:
    head = [f"most forgotten example{of}", "right, then wrong", "looks", "presentations", "data set of"]
    rows = [
        [str(one.example), _times(one), str(one.looks), str(one.presentations or "?"), clean(one.loader)]
        for one in found
    ]
    return head, rows


def _times(one: Forgotten) -> str:
    if one.most is None:
        return f"at least {one.least} times" if one.least > 1 else "at least once"
    if one.most == one.least:
        return f"{one.least} times" if one.least > 1 else "once"
    return f"{one.least} to {one.most} times"


def _kept(record: Record) -> dict[tuple[str, int], Sketch]:
    """The sketches of examples by loader and number; the last one stands."""
    found = {}
    for event in record.events("example"):
        sketch = _sketch(event.data)
        if sketch is not None and isinstance(event.data.get("example"), int):
            found[event.where, event.data["example"]] = sketch
    return found


def _sketch(data: Mapping[str, Any]) -> Sketch | None:
    picture, text, numbers = data.get("picture"), data.get("text"), data.get("numbers")
    if isinstance(picture, str) and PICTURE.fullmatch(picture):
        return Sketch(picture=picture)
    if isinstance(text, str):
        return Sketch(text=clean(text, longest=LONGEST))
    if isinstance(numbers, list):
        known = [number(float(one)) for one in numbers if isinstance(one, int | float)]
        more = " …" if data.get("more") else ""
        return Sketch(text=", ".join(known) + more)
    return None
