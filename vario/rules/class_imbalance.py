"""Some classes have many times the examples of others.

What it means: the loss is an average, so rare classes have little say in it and their errors hardly count.
That may be what is wanted; where every class matters, sampling them evenly or correcting the outputs by
the class shares helps.
How it is decided: the largest over the smallest class count in the training batches, as the model got
them (after any sampler), each times the weight that the loss function gives the class, and divided by what
training adds to its output alone, such as the logarithm of its share, makes of it; the low end of its
interval must pass 10. Advice on its own; a warning where a
rare class is neglected, that is, where held-out recall of the smaller half of the classes is less than half
of that of the others (the high end of its interval). Not raised where the frequent classes themselves are
recognised less than half of the time (held-out, else in training): as with letters or words that those
before them leave open, the shares are not what is in the way then.
Not applicable: targets are no classes, or one example has many targets (in text, unequal shares are normal);
fewer than 100 labels; a class that never came cannot be told from one that does not exist.
"""

from __future__ import annotations

import numpy as np

from vario.nouns import Evidence, Finding, NotApplicable, Severity
from vario.record import Record
from vario.rules._evidence import Estimate, Floats, reach
from vario.rules._examples import class_totals, graded, has_positions, rate
from vario.rules._held_out import per_class

ID = "class-imbalance"
CARD = {
    "papers": ("P086", "P075", "P076"),
    "reads": (
        "batch/class_counts",
        "batch/class_weights",
        "eval/class_correct",
        "eval/class_counts",
        "accuracy/class_correct",
    ),
    "checked": "closed form",
    "changed": "P086 varies imbalance from 1 to 5,000; the limit of 10 is where its plain nets "
    "begin to lose clearly",
    "harm": True,
    "summary": "The most frequent class has {largest over smallest class} times the examples of "
    "the rarest one.",
}


def check(
    record: Record,
    *,
    ratio: float = 10.0,
    labels: int = 100,
    neglected: float = 0.5,  # recall of the rare half below half of that of the others
    recognised: float = 0.5,  # as in class_neglected: below it the model as a whole does not know them
) -> Finding | None:
    """A finding where classes are unequal beyond chance."""
    steps, counts = class_totals(record)
    if not len(steps):
        raise NotApplicable("the targets are no classes, or none were counted")
    if has_positions(record):
        raise NotApplicable("one example has many targets; unequal shares of tokens or pixels are normal")
    total = counts.sum(axis=0)
    seen = total > 0
    if total.sum() < labels or seen.sum() < 2:
        raise NotApplicable(
            f"{total.sum():.0f} labels of {seen.sum()} classes; {labels} of 2 or more are needed"
        )
    say = total * _weights(record, len(total))  # in the loss; a class of weight 0 is left out on purpose
    if not (seen := say > 0).any():
        return None
    largest, smallest = int(say.argmax()), int(np.where(seen, say, np.inf).argmin())
    value = float(say[largest] / max(say[smallest], 1e-30))
    # Logarithm of a ratio of two counts; each adds the variance 1 / count.
    half = reach() * np.sqrt(1 / total[largest] + 1 / total[smallest])
    found = Evidence(
        "largest over smallest class", value, value * np.exp(-half), value * np.exp(half), ratio,
        f"class {smallest}",
    )  # fmt: skip
    if found.low <= ratio:
        return None
    severity: Severity = "advice"
    evidence = [found]
    recall = _recall(record, total)
    if recall is not None:
        few, many, held = recall
        if many.value < recognised:
            return None
        if held and np.isfinite(few.value):
            over = Estimate(few.value / many.value, few.low / many.high, few.high / max(many.low, 1e-9))
            evidence.append(over.evidence("recall of rare classes over others", neglected))
            severity = "warning" if over.high < neglected else "advice"
    sure = graded(float(np.log(found.low)), float(np.log(ratio)), float(np.log(10 * ratio)), least=0.8)
    return Finding(ID, severity, sure, (), (int(steps[0]), int(steps[-1])), tuple(evidence))


def _weights(record: Record, classes: int) -> Floats:
    """What the loss makes of each class: ones where it neither weighs classes nor is given shifted outputs.

    A model that learns f under softmax(f + b) answers as if class c were exp(-b_c) times as frequent.
    """
    weights = record.series("batch/class_weights")[1]
    known = weights.ndim == 2 and weights.shape[1] == classes and bool(np.isfinite(weights[-1]).all())
    say: Floats = weights[-1] if known else np.ones(classes)
    added = [event.data.get("added") for event in record.events("class_shift")][-1:]
    shift = np.array(added[0] if added else [], dtype=float)
    return say * np.exp(shift.mean() - shift) if len(shift) == classes and np.isfinite(shift).all() else say


def _recall(record: Record, total: Floats) -> tuple[Estimate, Estimate, bool] | None:
    """Recall of the rare classes, that of the rest, and whether it is of held-out data; None if not known."""
    try:
        _, right, counted, where = per_class(record)
    except NotApplicable:
        return None
    if len(right) != len(total):
        return None
    # The middle between the extremes in logarithms divides rare from frequent.
    rare = total < np.sqrt(total.max() * max(total[total > 0].min(), 1))
    few, many = (
        rate(float(right[k].sum() / max(counted[k].sum(), 1)), float(counted[k].sum())) for k in (rare, ~rare)
    )
    return few, many, bool(where)
