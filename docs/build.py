"""Writes one page per finding, method, instrument, score, law and problem from its own docstring and CARD.

``python3 dev.py docs`` writes them; with ``--check`` nothing is written and a page that is out of date fails.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from vario.remedies.catalog import Entry, entries, methods_for, papers
from vario.report.catalogue import FACTS

REFERENCE = Path(__file__).resolve().parent / "reference"
TITLES = {
    "finding": "Findings",
    "method": "Methods",
    "instrument": "Instruments",
    "score": "Scores",
    "law": "Laws",
    "problem": "Problems",
}


def main(arguments: list[str]) -> int:
    """Write or check all pages; the exit code."""
    wanted = pages()
    if "--check" in arguments:
        have = {path: path.read_text(encoding="utf-8") for path in REFERENCE.rglob("*.md")}
        stale = sorted(
            str(path.relative_to(REFERENCE))
            for path in {*have, *wanted}
            if have.get(path) != wanted.get(path)
        )
        if stale:
            print("out of date (run `python3 dev.py docs`):", *stale, sep="\n  ")
        return int(bool(stale))
    for path in REFERENCE.rglob("*.md"):
        path.unlink()
    for path, text in wanted.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    print(f"{len(wanted)} pages under {REFERENCE.name}/")
    return 0


def pages() -> Mapping[Path, str]:
    """The text of every page by its path, and an index for each kind."""
    written: dict[Path, str] = {}
    for kind, title in TITLES.items():
        chosen = [entry for entry in entries() if entry.kind == kind]
        folder = REFERENCE / title.lower()
        index = [f"# {title}", ""]
        for entry in chosen:
            written[folder / f"{entry.id}.md"] = page(entry)
            index.append(f"- [{entry.id}]({entry.id}.md): {entry.title}")
        written[folder / "README.md"] = "\n".join([*index, ""])
    return written


def page(entry: Entry) -> str:
    """One page: the docstring as it stands, the facts, the credit."""
    lines = [f"# {entry.id}", "", entry.doc.strip(), ""]
    facts = [(label, entry.card.get(key)) for key, label in FACTS.items() if entry.card.get(key)]
    if facts:
        lines += ["| | |", "|---|---|", *(f"| {label} | {_cell(value)} |" for label, value in facts), ""]
    credits = papers()
    lines += [
        f"- {paper}: *{credits[paper].title}*" for paper in entry.card.get("papers", ()) if paper in credits
    ]
    if entry.kind == "finding" and (rows := methods_for(entry.id)):
        lines += ["", "## Methods against it", ""]
        for method, paper, available in rows:
            credit = f" ({paper.id}: *{paper.title}*)" if paper else ""
            lines.append(f"- {f'`{method}`' if available else 'not in vario yet'}{credit}")
    return "\n".join(
        [*lines, "", f"Source: `{entry.path.relative_to(entry.path.parents[_depth(entry)]).as_posix()}`", ""]
    )


def _depth(entry: Entry) -> int:
    return entry.path.parts[::-1].index("vario")


def _cell(value: object) -> str:
    if isinstance(value, Mapping):
        text = "; ".join(f"{key}: {item}" for key, item in value.items())
    else:
        text = value if isinstance(value, str) else ", ".join(map(str, value))  # type: ignore[call-overload]
    return text.replace("|", "\\|").replace("\n", " ")


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
