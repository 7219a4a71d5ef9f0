"""The single examples that the run did worst on, by their number in the loader's data set."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from vario.record import Record

__all__ = ["Worst", "worst_examples"]


EARLY = 0.1
_OF_ONE = ("loss", "target", "guess", "probability")


class Worst(NamedTuple):
    """One example, at the steps that had it among their worst."""

    loader: str
    example: int
    looks: int
    loss: float  # mean over the looks
    target: float  # class or value that the data set gives
    guess: float  # class at the last look; NaN for regression
    probability: float  # of the target at the last look; NaN for regression


def worst_examples(record: Record, *, most: int = 20, wrong: bool = False) -> list[Worst]:
    """Largest mean loss first, once the first tenth of the steps is over: there the model knows nothing yet.

    ``wrong``: only those that got another class at every look.
    """
    found: list[Worst] = []
    for loader in record.wheres("worst/example"):
        entries = {name: _entries(record, name, loader) for name in ("example", *_OF_ONE)}
        known = np.flatnonzero(np.isfinite(entries["example"]))
        if not len(known):
            continue
        examples, which, looks = np.unique(entries["example"][known], return_inverse=True, return_counts=True)
        loss = np.bincount(which, entries["loss"][known]) / looks
        right = np.bincount(which, entries["guess"][known] == entries["target"][known])
        last = np.zeros(len(examples), int)
        np.maximum.at(last, which, known)
        at = np.flatnonzero(right == 0) if wrong else np.arange(len(examples))
        for one in at[np.argsort(-loss[at], kind="stable")][:most]:
            target, guess, probability = (float(entries[name][last[one]]) for name in _OF_ONE[1:])
            found.append(
                Worst(
                    loader, int(examples[one]), int(looks[one]), float(loss[one]), target, guess, probability
                )  # fmt: skip
            )
    return sorted(found, key=lambda one: -one.loss)[:most]


def _entries(record: Record, name: str, loader: str) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """All entries of a series in order of the steps; NaN where it was not read beside the examples."""
    at, examples = record.series("worst/example", loader)
    late = at >= EARLY * record.step_count
    at, examples = at[late], examples[late]
    steps, values = record.series(f"worst/{name}", loader)
    every = np.full(examples.shape, np.nan)
    both, mine, theirs = np.intersect1d(at, steps, return_indices=True)
    if len(both):
        every[mine] = values[theirs]
    return every.reshape(-1)
