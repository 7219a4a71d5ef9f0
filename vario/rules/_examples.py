"""Shares of counted examples, and what the recorded steps say about the examples of the run."""

from __future__ import annotations

import numpy as np

from vario.nouns import NotApplicable
from vario.record import Record
from vario.rules._evidence import Estimate, Floats, Steps, finite, reach

__all__ = [
    "batch_size",
    "class_totals",
    "classes",
    "graded",
    "has_positions",
    "labelled_share",
    "labels_per_example",
    "plain_loss",
    "rate",
    "train_accuracy",
]


def rate(part: float, count: float) -> Estimate:
    """A share of ``count`` independent examples, with Wilson's 95 % interval."""
    if not count >= 1 or not np.isfinite(part):
        return Estimate(np.nan, 0.0, 1.0)
    p, z = min(max(part, 0.0), 1.0), reach()
    middle = (p + z * z / (2 * count)) / (1 + z * z / count)
    half = z * np.sqrt(p * (1 - p) / count + z * z / (4 * count * count)) / (1 + z * z / count)
    # of none and of all the ends are 0 and 1, which rounding misses
    return Estimate(p, min(p, max(0.0, float(middle - half))), max(p, min(1.0, float(middle + half))))


def graded(value: float, limit: float, certain: float, *, least: float = 0.6, most: float = 0.95) -> float:
    """Confidence: ``least`` where ``value`` meets the limit, growing to ``most`` where it is ``certain``."""
    part = (value - limit) / (certain - limit) if certain != limit else 1.0
    return float(least + (most - least) * min(max(part, 0.0), 1.0)) if np.isfinite(part) else most


def batch_size(record: Record) -> float:
    """The usual number of examples in one forward; nan where it is not known."""
    values = finite(*record.series("batch/size"))[1]
    return float(np.median(values)) if len(values) else np.nan


def class_totals(record: Record) -> tuple[Steps, Floats]:
    """Steps and counts (steps, classes) of integer targets, without broken or empty readings."""
    steps, counts = record.series("batch/class_counts")
    if not len(steps) or counts.ndim != 2:
        return np.empty(0, np.int64), np.empty((0, 0))
    keep = np.isfinite(counts).all(axis=1) & (counts.sum(axis=1) > 0)
    return steps[keep], counts[keep]


def classes(record: Record) -> int:
    """How many classes the targets have; 0 where targets are no classes."""
    return int(class_totals(record)[1].shape[1])


def has_positions(record: Record) -> bool:
    """Whether one example has many targets, as the tokens of a text or the pixels of a mask."""
    return labels_per_example(record) > 1.5


def labels_per_example(record: Record) -> float:
    """Labels that were counted per step over the examples of a step; nan where either is not known."""
    counts, size = class_totals(record)[1], batch_size(record)
    backwards = finite(*record.series("loss/backwards"))[1]
    if not len(counts) or not size > 0:
        return np.nan
    times = max(float(np.median(backwards)), 1.0) if len(backwards) else 1.0
    return float(np.median(counts.sum(axis=1))) / (size * times)


def labelled_share(record: Record) -> float:
    """Targets of a step's loss over the rows that the model was given; nan where either is not known."""
    targets, size, backwards = (
        finite(*record.series(name))[1] for name in ("batch/targets", "batch/size", "loss/backwards")
    )
    if not len(targets) or not len(size):
        return np.nan
    times = max(float(np.median(backwards)), 1.0) if len(backwards) else 1.0
    return float(np.median(targets)) / (max(float(np.median(size)), 1.0) * times)


def plain_loss(record: Record, *, off: float = 0.05) -> bool:
    """Whether the training loss is the mean loss per example: no smoothing, no weights, no other terms.

    Taken as so where the two were never read at the same step.
    """
    steps, means = finite(*_mean_losses(record))
    at, loss = finite(*record.series("loss/train"))
    _, a, b = np.intersect1d(steps, at, return_indices=True)
    ratio = means[a] / np.where(loss[b] == 0, np.nan, loss[b])
    ratio = ratio[np.isfinite(ratio)]
    return not len(ratio) or bool(abs(float(np.median(ratio)) - 1) < off)


def _mean_losses(record: Record) -> tuple[Steps, Floats]:
    steps, means = record.series("examples/loss_mean")
    if len(steps):
        return steps, means
    steps, quantiles = record.series("examples/loss_quantiles")  # all that older records have
    if quantiles.ndim != 2:
        return steps[:0], means
    # The trapezoid over eleven quantiles is the mean but for the curvature of the tail.
    return steps, (quantiles[:, 1:] + quantiles[:, :-1]).mean(axis=1) / 2


def train_accuracy(record: Record, first: float, last: float, *, examples: int = 100) -> Estimate:
    """Accuracy on the training batches of the steps after ``first`` and up to ``last``."""
    steps, values = finite(*record.series("accuracy/train"))
    inside = (steps > first) & (steps <= last)
    if not inside.any():
        raise NotApplicable(f"no reading of accuracy/train between steps {first:.0f} and {last:.0f}")
    counted = class_totals(record)[1]
    each = float(np.median(counted.sum(axis=1))) if len(counted) else batch_size(record)
    count = inside.sum() * (each if each > 0 else 1.0)
    if count < examples:
        raise NotApplicable(f"{count:.0f} training examples were measured there; {examples} are needed")
    return rate(float(values[inside].mean()), count)
