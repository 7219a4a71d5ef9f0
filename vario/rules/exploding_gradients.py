"""Gradients grow beyond measure, with time or with depth, and the run fails.

What it means: the signal that comes back through the layers is multiplied by more than one at each of
them, or the weights have grown so that it is. The first layers receive steps that destroy what was
learned.
How it is decided: only in a run that fails, where the norm of the whole gradient exceeds that of the weights
(a gradient that was next to nothing at first may well grow a thousandfold). With time: it rose to more than
100 times its level in the first steps, or to infinity. With depth: it does so in the first steps, and the
entries of the gradient of the layer that gets most are more than 1,000 times as large (root mean square) as
in the layer nearest to the loss. Where that is so before any step was taken, no learning rate has made it so.
Not applicable: fewer than 3 readings of the gradient's norm.
"""

from __future__ import annotations

import numpy as np

from vario.nouns import Evidence, Finding
from vario.record import Record
from vario.rules._course import course
from vario.rules._evidence import confidence, exactly, finite
from vario.rules._parameters import early_norms, running_max

ID = "exploding-gradients"
BEFORE_ANY_STEP = "the same before any step"
CARD = {
    "papers": ("P257", "P087"),
    "reads": ("gradient/norm", "weight/norm", "loss/train"),
    "checked": "closed form: a product of equal factors over depth; a geometric series over time",
    "changed": "",
    "alone": "worse",
    "summary": "The gradient reached {largest gradient norm}; in the first steps it was "
    "{gradient norm at the start}; that of a layer was {gradient of this layer over that of the last} times "
    "that of the last.",
}


def check(
    record: Record,
    *,
    over_time: float = 100.0,  # healthy gradients fall, or rise less than tenfold from a flat start
    over_depth: float = 1000.0,  # layers of different widths differ by tens
) -> Finding | None:
    """A finding where the run fails and its gradients grew with time or with depth."""
    steps, norms = record.need("gradient/norm", 3)
    run = course(record, count=3)
    if not run.failing:
        return None
    infinite = np.isinf(norms)
    kept_steps, kept = finite(steps, norms)
    if not len(kept):
        return None
    start = float(max(np.median(kept[:3]), kept[0]))  # where the first step did most, it fell from there
    at, largest = running_max(kept_steps, kept, width=1)
    if infinite.any() and largest > 10 * start:
        at, largest = int(steps[infinite.argmax()]), np.inf
    evidence: list[Evidence] = [
        exactly("largest gradient norm", largest, over_time * start),
        exactly("gradient norm at the start", start, start),
    ]
    weight = finite(*record.series("weight/norm"))[1]
    if largest > over_time * start > 0 and not (len(weight) and largest <= weight[0]):
        sure = confidence(largest, over_time * start, least=0.75)
        return Finding(ID, "error", sure, _largest_growth(record), (at, int(steps[-1])), tuple(evidence))
    depth = list(early_norms(record).items())
    if len(depth) < 3 or not len(weight) or start <= float(weight[0]):
        return None
    name, most = max(depth, key=lambda item: item[1])
    ratio = most / max(depth[-1][1], 1e-30)
    if ratio <= over_depth:
        return None
    evidence.append(exactly("gradient of this layer over that of the last", ratio, over_depth, name))
    first = early_norms(record, readings=1)
    untouched = max(first.values()) / max(list(first.values())[-1], 1e-30) if steps[0] == 0 else 0.0
    if untouched > over_depth:
        evidence.append(exactly(BEFORE_ANY_STEP, untouched, over_depth))
    sure = confidence(ratio, over_depth)
    return Finding(ID, "error", sure, (name,), (int(steps[0]), int(steps[-1])), tuple(evidence))


def _largest_growth(record: Record, count: int = 3) -> tuple[str, ...]:
    """The parameters whose gradient grew most, at most ``count`` of them."""
    growth = {}
    for where in record.wheres("gradient/norm"):
        values = finite(*record.series("gradient/norm", where))[1]
        if where and len(values) >= 3 and np.median(values[:3]) > 0:
            growth[where] = float(values.max() / np.median(values[:3]))
    return tuple(sorted(growth, key=lambda w: -growth[w])[:count])
