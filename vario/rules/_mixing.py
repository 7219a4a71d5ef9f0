"""How batches are drawn: of other rows each time or not, at random or sorted by class."""

from __future__ import annotations

import numpy as np

from vario.record import Event, Record
from vario.rules._evidence import Estimate, finite, reach
from vario.rules._examples import class_totals

__all__ = ["drawn_anew", "sorting"]


def sorting(record: Record, *, readings: int = 5) -> Estimate | None:
    """How far batches are sorted: 0 where they are drawn at random, 1 where each holds a single class.

    The correlation of the classes within a batch (intraclass), with its interval over blocks of batches.
    The purity of a batch is the chance that two of its examples, drawn without replacement, share a class.
    Random batches have that of the whole data; a batch of one class has 1. None where it is not known.
    """
    counts = class_totals(record)[1]
    size = counts.sum(axis=1)
    counts, size = counts[size >= 2], size[size >= 2]
    if len(counts) < readings:
        return None
    purity = ((counts * (counts - 1)).sum(axis=1)) / (size * (size - 1))
    share = counts.sum(axis=0) / counts.sum()
    expected = float((share**2).sum())
    if expected > 0.99:
        return None  # one class only: sorted and mixed are the same
    each = (purity - expected) / (1 - expected)
    middle = float(each.mean())
    half = reach() * float(each.std(ddof=1)) / np.sqrt(len(each))
    return Estimate(middle, middle - half, middle + half)


def drawn_anew(record: Record, batch: float) -> bool | None:
    """Whether steps are about other rows each time; None where too little tells of their rows.

    What is asked of the model before training is told with the first step, which so tells nothing.
    """
    epochs = [event.where for event in record.events("epoch")]
    loaders = [event for event in record.events("loader") if event.where in epochs]
    if loaders:
        lengths = [float(loader.data.get("length") or np.inf) for loader in loaders]
        # One that was asked for a batch, which all steps then use, has no batches for half of the steps.
        given = sum(epochs.count(loader.where) * _batches(loader) for loader in loaders)
        return min(lengths) > batch and given >= record.step_count / 2
    known = [finite(*record.series(f"{name}/mean"))[1] for name in ("input", "target")]
    known.append(class_totals(record)[1])
    changed = [bool((values[2:] != values[1:-1]).any()) for values in known if len(values) > 2]
    if changed and all(changed):
        return True
    # Inputs alone do not show that rows are the same: all rows with a single one among zeros have one mean.
    told = [len(values) > 2 for values in known]
    return False if told[0] and any(told[1:]) and not any(changed) else None


def _batches(loader: Event) -> float:
    """What an epoch of it gives, as far as known; without end where rows are drawn with replacement."""
    length, size = (float(loader.data.get(name) or np.inf) for name in ("length", "batch_size"))
    return np.inf if loader.data.get("replacement") or size == np.inf else float(np.ceil(length / size))
