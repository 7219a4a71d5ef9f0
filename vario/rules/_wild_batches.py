"""The examples that batches had in common whose loss stood out.

A strange example is in one batch of each epoch. One that was in so many of these batches as chance would give
hardly any example of the data set is named.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import NamedTuple

from vario.record import Record

__all__ = ["Suspect", "suspects"]

RARE = 0.01  # examples of the whole data set that chance would put into so many of the batches
FEWEST = 3


class Suspect(NamedTuple):
    """An example, by its number in the data set of a loader: in ``held`` of ``batches``."""

    loader: str
    example: int
    held: int
    batches: int


def suspects(record: Record) -> list[Suspect]:
    """Those that chance does not explain, the most frequent first.

    Batches are drawn without repeats, each holding a share of the data set; how often one example is in k of
    them is binomial. Each step counts once.
    """
    lengths = {e.where: e.data.get("length") for e in record.events("loader")}
    of_loader: dict[str, dict[int, list[int]]] = {}
    for event in record.events("wild_batch"):
        of_loader.setdefault(event.where, {})[int(event.data["step"])] = event.data["examples"]
    found: list[Suspect] = []
    for loader, batches in of_loader.items():
        length, count = lengths.get(loader), len(batches)
        if not isinstance(length, int) or not length or count < FEWEST:
            continue
        share = sum(len(set(examples)) for examples in batches.values()) / count / length
        times = Counter(example for examples in batches.values() for example in set(examples))
        found += [
            Suspect(loader, example, held, count)
            for example, held in times.most_common()
            if held >= FEWEST and length * _tail(held, count, share) < RARE
        ]
    return found


def _tail(held: int, count: int, share: float) -> float:
    """The chance that an example is in ``held`` or more of ``count`` batches."""
    return sum(math.comb(count, k) * share**k * (1 - share) ** (count - k) for k in range(held, count + 1))
