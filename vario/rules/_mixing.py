"""How far batches are sorted: 0 where they are drawn at random, 1 where each holds a single class."""

from __future__ import annotations

import numpy as np

from vario.record import Record
from vario.rules._evidence import Estimate, reach
from vario.rules._examples import class_totals

__all__ = ["sorting"]


def sorting(record: Record, *, readings: int = 5) -> Estimate | None:
    """Correlation of the classes within a batch (intraclass), with its interval over blocks of batches.

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
