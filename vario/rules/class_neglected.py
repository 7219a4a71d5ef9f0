"""A class is almost never recognised although the others are.

What it means: the average hides it: overall accuracy looks well while one class is hardly ever right. Too
few examples of it, too small a share in the loss, or labels that another class swallowed are usual reasons.
How it is decided: recall per class at the last held-out evaluation (in training where there is none):
the high end of its interval is below a third of the median recall of all classes, for classes with 10
or more examples. The usual class must be recognised at least half of the time, and the neglected classes
together must be fewer than 40 % of the examples: a model that recognises nothing is another illness. Advice
where answers are right no more often than the commonest class comes: some targets allow no more.
Not applicable: no accuracy per class; one example has many targets; no class has 10 examples.
"""

from __future__ import annotations

import numpy as np

from vario.nouns import Finding, NotApplicable, Severity
from vario.record import Record
from vario.rules._evidence import Estimate
from vario.rules._examples import graded, has_positions, rate
from vario.rules._held_out import per_class

ID = "class-neglected"
CARD = {
    "papers": ("P086", "P094"),
    "reads": ("eval/class_correct", "eval/class_counts", "accuracy/class_correct", "batch/class_counts"),
    "checked": "closed form",
    "changed": "",
    "summary": "Classes that are hardly recognised: {neglected classes}; the worst has a recall of "
    "{recall of the worst class:%} "
    "where the usual class has {usual recall:%}.",
}


def check(
    record: Record,
    *,
    part: float = 1 / 3,  # of the usual recall: too far down for a class that is merely harder
    examples: int = 10,
    share: float = 0.4,  # beyond it the model as a whole fails
    recognised: float = 0.5,
) -> Finding | None:
    """A finding where some classes are right far less often than the usual class."""
    if has_positions(record):
        raise NotApplicable("one example has many targets; rare tokens are missed without harm")
    step, right, counts, where = per_class(record)
    known = counts >= examples
    if known.sum() < 2:
        raise NotApplicable(f"{known.sum()} classes with {examples} examples; 2 are needed")
    recall = np.where(known, right / np.maximum(counts, 1), np.nan)
    # With few classes the median would be pulled down by the neglected one itself.
    usual = float(np.nanmedian(recall)) if known.sum() > 2 else float(np.nanmax(recall))
    intervals: dict[int, Estimate] = {
        int(k): rate(float(recall[k]), float(counts[k])) for k in np.flatnonzero(known)
    }
    poor = {k: e for k, e in intervals.items() if e.high < part * usual}
    mass = sum(counts[k] for k in poor) / counts.sum()
    if not poor or mass >= share or usual < recognised:
        return None
    worst = min(poor, key=lambda k: (poor[k].high, k))
    evidence = (
        rate(len(poor) / known.sum(), float(known.sum())).evidence("share of classes neglected", 0.0),
        Estimate(float(len(poor)), float(len(poor)), float(len(poor))).evidence("neglected classes", 0.0),
        poor[worst].evidence("recall of the worst class", part * usual, f"class {worst}"),
        Estimate(usual, usual, usual).evidence("usual recall", 0.0),
    )
    # To say the commonest class always is all that some targets allow, at the usual threshold of a half.
    guesses = rate(float(right.sum() / counts.sum()), float(counts.sum())).low <= counts.max() / counts.sum()
    severity: Severity = "advice" if guesses else "warning"
    sure = graded(part * usual - poor[worst].high, 0.0, 0.2, least=0.7)
    places = tuple(f"class {k}" for k in sorted(poor))
    return Finding(ID, severity, sure, (where, *places) if where else places, (step, step), evidence)
