"""The catalogue of everything that vario holds, read from the files themselves.

Docstrings and CARDs are read as the literals that they are, so that listing two hundred methods imports none
of them, needs no torch, and takes less time than importing one.
"""

from __future__ import annotations

import ast
import functools
import inspect
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vario.nouns import VarioError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["Entry", "Paper", "entries", "find", "methods_for", "papers"]

HOUSE = Path(__file__).resolve().parent.parent
ROOMS = ("rules", "methods", "instruments", "scores", "laws", "problems")
KINDS = {"rules": "finding", "methods": "method", "instruments": "instrument"}
KINDS |= {"scores": "score", "laws": "law", "problems": "problem"}


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of the house: a rule, a method, an instrument, a score, a law or a problem."""

    id: str
    kind: str
    shelf: str
    path: Path
    doc: str
    card: Mapping[str, Any]

    @property
    def title(self) -> str:
        return self.doc.strip().partition("\n")[0]


@dataclass(frozen=True, slots=True)
class Paper:
    """One paper of ``papers.toml`` and what became of it."""

    id: str
    title: str
    place: str = ""
    why: str = ""
    treats: tuple[str, ...] = ()
    cited_by: tuple[str, ...] = field(default=())

    @property
    def state(self) -> str:
        if self.cited_by:
            return "in vario"
        return "no code" if self.why else "not in vario yet"


@functools.cache
def entries() -> tuple[Entry, ...]:
    """Every file with a CARD, by room."""
    found = []
    for room in ROOMS:
        for path in sorted((HOUSE / room).rglob("*.py")):
            if not path.name.startswith("_") and (entry := _read(room, path)):
                found.append(entry)
    return tuple(found)


@functools.cache
def papers() -> Mapping[str, Paper]:
    """All papers by id, with the entries that cite them."""
    cited: dict[str, list[str]] = {}
    for entry in entries():
        for paper in entry.card.get("papers", ()):
            cited.setdefault(paper, []).append(entry.id)
    with (HOUSE / "papers.toml").open("rb") as file:
        raw = tomllib.load(file)
    return {
        key: Paper(
            key,
            row["title"],
            row.get("place", ""),
            row.get("why", ""),
            tuple(row.get("treats", ())),
            tuple(cited.get(key, ())),
        )
        for key, row in raw.items()
    }


def find(name: str) -> Entry:
    """The entry of that id; an error that names the nearest ones otherwise."""
    import difflib

    from vario.remedies.search import search

    wanted = name.strip().lower().replace("_", "-")
    for entry in entries():
        if entry.id == wanted:
            return entry
    known = [entry.id for entry in entries()]
    near = difflib.get_close_matches(wanted, known, n=3, cutoff=0.5) or [
        entry.id for entry in search(wanted, kinds=KINDS.values())[:3]
    ]
    hint = f" Did you mean {', '.join(near)}?" if near else ""
    raise VarioError(
        f"nothing in vario is called {name!r}.{hint} `vario methods WORDS` searches in plain words."
    )


def methods_for(finding_id: str) -> list[tuple[str, Paper | None, bool]]:
    """What is meant against a finding: (method id or "", its paper, whether vario has it)."""
    credits = papers()
    rows: list[tuple[str, Paper | None, bool]] = []
    named: set[str] = set()
    for entry in entries():
        if entry.kind == "method" and finding_id in entry.card.get("treats", ()):
            sources = [credits[p] for p in entry.card.get("papers", ()) if p in credits]
            rows.append((entry.id, sources[0] if sources else None, True))
            named.update(paper.id for paper in sources)
    for paper in credits.values():
        if finding_id in paper.treats and paper.id not in named:
            rows.append(("", paper, False))
    return rows


def _read(room: str, path: Path) -> Entry | None:
    """Of the file only its docstring and its CARD are parsed: whole files take four times as long."""
    text = path.read_text(encoding="utf-8")
    card = re.search(r"^CARD = (\{\n.*?^\})", text, re.DOTALL | re.MULTILINE)
    if card is None:
        return None
    shelf = path.parent.name if path.parent.name != room else ""
    doc = re.match(r'r?""".*?"""', text, re.DOTALL)
    words = inspect.cleandoc(ast.literal_eval(doc[0])) if doc else ""
    return Entry(path.stem.replace("_", "-"), KINDS[room], shelf, path, words, ast.literal_eval(card[1]))
