"""What the script prints of held-out data, where its evaluation shows no loss of its own.

A loss written by hand is known by what the user is told of it. Its unit is the script's, so that it may be
held against itself only, at other times.
"""

from __future__ import annotations

import numpy as np

from vario.nouns import Evidence, NotApplicable
from vario.record import Record
from vario.rules._evidence import Floats, Steps, finite, reach

__all__ = ["printed_accuracy", "printed_gain", "printed_losses"]

OF_TRAINING = ("train", "training", "trn")
FOLLOWS = 1.5  # a figure of training is its loss where it stays within this factor of it


def printed_losses(record: Record, count: int) -> tuple[str, Steps, Floats]:
    """Words, steps and values of the held-out loss that was printed most often, at least ``count`` times."""
    series = {words: _by_step(record, "printed/loss", words) for words in record.wheres("printed/loss")}
    if _is_loss(record):
        bare = record.wheres("printed/figure")
        series |= {words: _by_step(record, "printed/figure", words) for words in bare}
    held_out = {words: found for words, found in series.items() if words.split()[0] not in OF_TRAINING}
    if not held_out:
        raise NotApplicable("no loss on held-out data was seen or printed")
    words = max(held_out, key=lambda name: (len(held_out[name][0]), name))
    if len(held_out[words][0]) < count:
        raise NotApplicable(f"{len(held_out[words][0])} held-out losses were printed; {count} are needed")
    return words, *held_out[words]


def printed_accuracy(record: Record) -> tuple[str, Steps, Floats] | None:
    """Where, steps and shares of the held-out accuracy that was printed most often; None without one."""
    found: list[tuple[str, Steps, Floats]] = []
    for words in record.wheres("printed/score"):
        of, *kind = words.split()
        steps, values = _by_step(record, "printed/score", words)
        if of in OF_TRAINING or kind[-1:] not in (["acc"], ["accuracy"]) or not len(values):
            continue
        values = values / 100 if values.max() > 1 else values  # per cent
        if 0 <= values.min() and values.max() <= 1:
            found.append((f'printed "{words}"', steps, values))
    return max(found, key=lambda one: (len(one[1]), one[0]), default=None)


def printed_gain(record: Record, best: int) -> Evidence | None:
    """By how much a printed held-out score is better at the end than at step ``best``; None without one."""
    for words in record.wheres("printed/score"):
        steps, values = _by_step(record, "printed/score", words)
        if words.split()[0] in OF_TRAINING or len(values) < 4 or best not in steps:
            continue
        changes = np.diff(values)
        noise = 1.4826 * float(np.median(np.abs(changes - np.median(changes)))) / np.sqrt(2)
        gain = float(np.median(values[-3:]) - values[steps == best][0])
        half = reach() * noise
        return Evidence(
            "gain of held-out accuracy since", gain, gain - half, gain + half, 0.0, f'printed "{words}"'
        )
    return None


def _by_step(record: Record, name: str, words: str) -> tuple[Steps, Floats]:
    """One value a step: the mean where several were printed, as one for each batch of an evaluation.

    The root of a squared error is squared again, as losses are: it rises by half as much.
    """
    steps, values = finite(*record.series(name, words))
    values = values**2 if words.split()[-1] == "rmse" else values
    at, which, counts = np.unique(steps, return_inverse=True, return_counts=True)
    return at, np.bincount(which, values, len(at)) / counts


def _is_loss(record: Record) -> bool:
    """Whether the figures of training, printed beside those of held-out data, are its losses all along."""
    at, losses = finite(*record.series("loss/train"))
    for words in record.wheres("printed/figure"):
        steps, values = _by_step(record, "printed/figure", words)
        if words not in OF_TRAINING or len(steps) < 4:
            continue
        edges = np.searchsorted(at, [-1, *steps], side="right")
        usual = [
            np.median(losses[a:b]) if b > a else np.nan for a, b in zip(edges[:-1], edges[1:], strict=True)
        ]
        ratio = values[1:] / np.array(usual)[1:]  # losses fall fast before the first
        ratio = ratio[np.isfinite(ratio)]  # of some epochs no step was measured
        return len(ratio) >= 3 and bool(np.all((ratio > 1 / FOLLOWS) & (ratio < FOLLOWS)))
    return False
