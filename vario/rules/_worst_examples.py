"""The single examples that the run did worst on, by their number in the loader's data set."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from vario.record import Record

__all__ = ["Worst", "entries", "worst_examples"]


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
    wrong: int = 0  # looks that gave another class


def worst_examples(record: Record, *, most: int = 20, wrong: bool = False) -> list[Worst]:
    """Largest mean loss first, once the first tenth of the steps is over: there the model knows nothing yet.

    ``wrong``: only those that got another class at every look.
    """
    found: list[Worst] = []
    for loader in record.wheres("worst/example"):
        late = EARLY * record.step_count
        found_at = {name: entries(record, name, loader, after=late) for name in ("example", *_OF_ONE)}
        known = np.flatnonzero(np.isfinite(found_at["example"]))
        if not len(known):
            continue
        examples, which, looks = np.unique(
            found_at["example"][known], return_inverse=True, return_counts=True
        )
        loss = np.bincount(which, found_at["loss"][known]) / looks
        right = np.bincount(which, found_at["guess"][known] == found_at["target"][known])
        last = np.zeros(len(examples), int)
        np.maximum.at(last, which, known)
        at = np.flatnonzero(right == 0) if wrong else np.arange(len(examples))
        for one in at[np.argsort(-loss[at], kind="stable")][:most]:
            target, guess, probability = (float(found_at[name][last[one]]) for name in _OF_ONE[1:])
            found.append(
                Worst(
                    loader,
                    int(examples[one]),
                    int(looks[one]),
                    float(loss[one]),
                    target,
                    guess,
                    probability,
                    int(looks[one] - right[one]) if np.isfinite(guess) else 0,
                )  # fmt: skip
            )
    return sorted(found, key=lambda one: -one.loss)[:most]


def entries(
    record: Record, name: str, loader: str, *, after: float = 0.0
) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """All entries of ``worst/NAME`` from a step on, in order of the steps; "step" is the step of each.

    NaN where it was not read beside the examples.
    """
    at, examples = record.series("worst/example", loader)
    late = at >= after
    at, examples = at[late], examples[late]
    if name == "step":
        return np.repeat(at.astype(np.float64), examples.shape[1] if examples.ndim > 1 else 1)
    steps, values = record.series(f"worst/{name}", loader)
    every = np.full(examples.shape, np.nan)
    both, mine, theirs = np.intersect1d(at, steps, return_indices=True)
    if len(both):
        every[mine] = values[theirs]
    return every.reshape(-1)
