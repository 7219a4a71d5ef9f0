"""The catalogue searched in plain words: what an engineer types, against what the files say of themselves.

A word weighs by how rare it is in the catalogue (Robertson and Spärck Jones, 1976), and by where it stands:
the name and the title of a method say what it is, *When to use* what it is good for. *When not to* counts
for nothing: a method is not found by what it cannot do. A method is also found through the findings that it
treats, since people name what they see, and the title of a method names what it does.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Iterable, Mapping

from vario.remedies.catalog import Entry, entries, papers

__all__ = ["search"]

NAME, TREATS, USE, REST = 4.0, 3.0, 2.0, 1.0  # weight of a word by the place where it stands
THROUGH_A_FINDING = 0.5  # of a finding's own score, for the methods against it
ENOUGH = 0.5  # of the words must be found

# Of no meaning in a question about training.
COMMON = frozenset(
    "a an and are as at be but by can do does for from get gets getting good have how i in is it its keeps "
    "like make me my need no not of on one or our should so some that the there they this to too up use "
    "using very want we what when which while who why will with without you your".split()
)
# What the field writes short, and the words of the catalogue for it.
_SHORT = {
    "8 bit": "8bit",
    "accuracy": "acc",
    "batch normalization": "bn batchnorm",
    "bits quantised": "int4 int8",
    "calibration overconfidence": "ece uncalibrated",
    "cross entropy": "ce",
    "diverging": "diverges",
    "hyperparameters": "hparams hpo",
    "layer normalization": "layernorm",
    "learning rate": "lr",
    "low precision": "amp bf16 bfloat16 float16 fp16 fp8 half mixed",
    "memory": "oom ram vram",
    "mixture experts": "moe",
    "models weights": "checkpoints",
    "non finite": "inf nan nans",
    "overconfidence": "overconfident",
    "overfitting": "overfits",
    "strange distribution": "ood",
    "weight decay": "wd",
    "wrong label noise": "mislabeled mislabelled",
}
SHORT = {short: words for words, all_of_them in _SHORT.items() for short in all_of_them.split()}


def search(words: str, *, kinds: Iterable[str] = ("method",)) -> list[Entry]:
    """Entries that answer to the words, best first; all of the kinds where there are no words."""
    wanted = _asked(words)
    pool = [entry for entry in entries() if entry.kind in set(kinds)]
    if not wanted:
        return pool
    findings = {entry.id: _score(_places(entry), wanted) for entry in entries() if entry.kind == "finding"}
    scored = []
    for entry in pool:
        own = _score(_places(entry), wanted)
        ill = max((findings.get(name, 0.0) for name in entry.card.get("treats", ())), default=0.0)
        value = own + THROUGH_A_FINDING * ill
        if value > 0:
            scored.append((-value, entry.id, entry))
    return [entry for *_, entry in sorted(scored, key=lambda row: row[:2])]


def _score(places: Mapping[str, float], wanted: list[set[str]]) -> float:
    """What the words that are found weigh, by rarity and place; 0 where too few of them are found."""
    rare = _rarity()
    best = [max((rare[stem] * places[stem] for stem in one if stem in places), default=0.0) for one in wanted]
    return sum(best) if sum(value > 0 for value in best) >= ENOUGH * len(best) else 0.0


def _asked(words: str) -> list[set[str]]:
    """One set of stems for each word that means something: any of them will do."""
    asked = []
    for word in re.findall(r"[a-z0-9']+", words.lower()):
        if word not in COMMON:
            asked.append({_stem(part) for part in SHORT.get(word, word).split()})
    return asked


@functools.cache
def _rarity() -> dict[str, float]:
    """Of each stem, over everything that has a page."""
    counts: dict[str, int] = {}
    for entry in entries():
        for stem in _places(entry):
            counts[stem] = counts.get(stem, 0) + 1
    return {stem: math.log(1 + len(entries()) / n) for stem, n in counts.items()}


def _places(entry: Entry) -> Mapping[str, float]:
    """Each stem of an entry with the weight of the best place where it stands."""
    return _places_of(entry.kind, entry.id)


@functools.cache
def _places_of(kind: str, name: str) -> Mapping[str, float]:
    entry = next(entry for entry in entries() if (entry.kind, entry.id) == (kind, name))
    titles = papers()
    credit = " ".join(titles[p].title for p in entry.card.get("papers", ()) if p in titles)
    head, _, body = entry.doc.strip().partition("\n")
    use, rest = _parted(body)
    found: dict[str, float] = {}
    for text, weight in (
        (f"{rest} {credit} {entry.card.get('cost', '')}", REST),
        (use, USE),
        (" ".join(entry.card.get("treats", ())), TREATS),
        (f"{entry.id} {head} {entry.shelf} {entry.card.get('slot', '')}", NAME),
    ):
        found |= dict.fromkeys(_stems(text), weight)
    return found


def _parted(body: str) -> tuple[str, str]:
    """What it is good for, and the rest, without formulas, examples, and what it is not good for."""
    use: list[str] = []
    rest: list[str] = []
    for part in re.split(r"\n\s*\n", body):
        head = part.strip()
        if head.startswith((".. math", ">>>", "When not to", "Not applicable", "How it is decided")):
            continue
        (use if head.startswith(("When to use", "What it means")) else rest).append(part)
    return " ".join(use), " ".join(rest)


# Endings, longest first, and what is left of them.
_ENDINGS = {
    "isation": "iz", "ization": "iz", "ations": "at", "ation": "at", "ating": "at", "ctors": "ct",
    "ction": "ct", "ising": "iz", "izers": "iz", "izing": "iz", "ments": "", "ated": "at", "ates": "at",
    "ctor": "ct", "ence": "en", "ised": "iz", "ises": "iz", "ized": "iz", "izer": "iz", "izes": "iz",
    "ment": "", "ness": "", "ate": "at", "ent": "en", "ies": "y", "ing": "", "ise": "iz", "ize": "iz",
    "ed": "", "es": "", "ly": "", "s": "",
}  # fmt: skip


def _stem(word: str) -> str:
    """Words that differ in their ending or spelling become one: quantised, quantize, quantization."""
    for ending, instead in _ENDINGS.items():
        if word.endswith(ending) and not word.endswith("ss") and len(word) - len(ending) > 2:
            word = word[: -len(ending)] + instead
            break
    word = word.removesuffix("e").replace("our", "or")
    return word[:-1] if len(word) > 3 and word[-1] == word[-2] and word[-1] not in "lsz" else word


def _stems(text: str) -> set[str]:
    return {_stem(word) for word in re.findall(r"[a-z0-9']+", text.lower())}
