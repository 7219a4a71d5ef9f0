"""The loss function was given probabilities where it expects logits.

What it means: cross entropy applies its own softmax. Given probabilities, it works on numbers between 0
and 1, so even a perfect answer costs ln(1 + (k-1)/e) for k classes, and gradients are several times too
small. The model learns slowly and its loss has a floor. The softmax at the end of the model must go.
How it is decided: at every reading, all values that the loss function was given lie within [0, 1] and
each row sums to 1, while the targets are classes. Logits do that only on purpose. A single yes-or-no
output counts as the two logits 0 and s; there, s within [0, 1] for every example of 20 readings is a
sigmoid before a loss that has its own.
Not applicable: fewer than 3 readings of the logits, or targets that are no classes (a squared error
between probabilities is a fair loss).
"""

from __future__ import annotations

import numpy as np

from vario.nouns import Finding, NotApplicable
from vario.record import Record
from vario.rules._course import course
from vario.rules._evidence import exactly, finite
from vario.rules._examples import classes

ID = "double-softmax"
CARD = {
    "papers": (),
    "reads": (
        "logits/largest",
        "logits/smallest",
        "logits/sum_deviation",
        "batch/class_counts",
        "loss/train",
    ),
    "checked": "closed form",
    "changed": "",
    "summary": "The loss function was given probabilities (rows sum to 1 within {deviation of row"
    " sums}), not logits; "
    "with them its loss cannot fall below {lowest reachable loss}.",
}


def check(record: Record, *, deviation: float = 1e-2, readings: int = 3) -> Finding | None:
    """``deviation`` 0.01: float16 and bfloat16 rows still sum to 1 within it; rows of logits do "
    "not by chance."""
    series = [
        finite(*record.need(f"logits/{name}", readings)) for name in ("largest", "smallest", "sum_deviation")
    ]
    if min(len(values) for _, values in series) < readings:
        raise NotApplicable(f"fewer than {readings} finite readings of the logits")
    count = classes(record)
    if count < 2:
        raise NotApplicable("the targets are no classes, so outputs in [0, 1] may be what the loss expects")
    (steps, largest), (_, smallest), (_, off) = series
    worst = float(off.max())
    yes_or_no = count == 2 and len(steps) >= 20 and float(np.abs(smallest).max()) == 0
    if (worst > deviation and not yes_or_no) or float(largest.max()) > 1 + deviation or float(smallest.min()) < -deviation:
        return None
    try:
        now = course(record).end.value
    except NotApplicable:
        now = record.last("loss/train")
    # nll_loss, given probabilities instead of their logarithms, is their negative mean.
    floor = -1.0 if now < 0 else float(np.log1p((count - 1) / np.e))
    evidence = (
        exactly("deviation of row sums", worst, deviation),
        exactly("largest value given", float(largest.max()), 1.0),
        exactly("smallest value given", float(smallest.min()), 0.0),
        exactly("lowest reachable loss", floor, 0.0),
        exactly("loss at the end", now, floor),
    )
    return Finding(ID, "error", 0.85 if yes_or_no else 0.98, (), (int(steps[0]), int(steps[-1])), evidence)
