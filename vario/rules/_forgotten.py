"""The single examples that the run got right and then wrong again, and how often that may have been.

A forgetting event (Toneva et al., arXiv 1812.05159) lies between two presentations of an example of which
the first was answered right and the second wrong. A record holds the worst examples of some steps, so of
most presentations it does not know the answer. Between two looks at an example, the first right and the
second wrong, lies one event at least. At most as many happened as pairs of right and wrong fit into all its
presentations, one an epoch; that is not known where a loader may draw an example twice.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from vario.record import Record
from vario.rules._worst_examples import entries

__all__ = ["Forgotten", "forgotten"]

ONCE = ("RandomSampler", "SequentialSampler")  # draw every example once an epoch


class Forgotten(NamedTuple):
    """One example, and bounds on its forgetting events."""

    loader: str
    example: int
    least: int
    most: int | None  # None: how often it was presented is not known
    looks: int  # presentations of which the answer is known
    presentations: int | None


def forgotten(record: Record, *, most: int = 10) -> list[Forgotten]:
    """Those with an event for certain, the most of them first."""
    found: list[Forgotten] = []
    for loader in record.wheres("worst/example"):
        numbers = entries(record, "example", loader)
        guess, target = entries(record, "guess", loader), entries(record, "target", loader)
        known = np.flatnonzero(np.isfinite(numbers) & np.isfinite(guess) & np.isfinite(target))
        numbers, right = numbers[known].astype(np.int64), guess[known] == target[known]
        starts = sorted(event.step for event in record.events("epoch") if event.where == loader)
        epochs = np.searchsorted(starts, entries(record, "step", loader)[known], side="right")
        once = bool(starts) and _draws_once(record, loader)
        order = np.argsort(numbers, kind="stable")  # of one example in order of the steps
        for part in np.split(order, np.flatnonzero(np.diff(numbers[order])) + 1):
            answers = right[part].tolist()
            least = sum(a and not b for a, b in zip(answers, answers[1:], strict=False))
            if least:
                bound = _most(answers, epochs[part].tolist(), len(starts)) if once else None
                shown = len(starts) if bound is not None else None
                found.append(Forgotten(loader, int(numbers[part[0]]), least, bound, len(part), shown))
    return sorted(found, key=lambda one: (-one.least, one.looks))[:most]


def _most(answers: list[bool], epochs: list[int], last: int) -> int | None:
    """How many fit in, with these answers in these of the epochs 1 to `last`; None where two share one."""
    if epochs[0] < 1 or any(a >= b for a, b in zip(epochs, epochs[1:], strict=False)):
        return None
    total = (epochs[0] - 1 + (not answers[0])) // 2 + (last - epochs[-1] + answers[-1]) // 2
    for i in range(len(epochs) - 1):
        unknown = epochs[i + 1] - epochs[i] - 1
        # A right answer can only begin a pair, a wrong one only end it; all between may do both.
        total += (unknown + answers[i] + (not answers[i + 1])) // 2
    return total


def _draws_once(record: Record, loader: str) -> bool:
    told = [event.data for event in record.events("loader") if event.where == loader]
    return any(data.get("sampler") in ONCE and not data.get("replacement") for data in told)
