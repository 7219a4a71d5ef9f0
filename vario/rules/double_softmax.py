"""The loss function was given probabilities where it expects logits.

What it means: cross entropy applies its own softmax. Given probabilities, it works on numbers between 0
and 1, so even a perfect answer costs ln(1 + (k-1)/e) for k classes, and gradients are several times too
small. The model learns slowly and its loss has a floor. The softmax at the end of the model must go.
How it is decided: the graph of the computation shows the softmax right before the loss; or, at every
reading, all values that the loss function was given lie within [0, 1] and
each row sums to 1, while the targets are classes. Logits do that only on purpose. A single yes-or-no
output counts as the two logits 0 and s; there, s within [0, 1] for every example of 20 readings is a
sigmoid before a loss that has its own.
Not applicable: the graph was not seen, and there are fewer than 3 readings of the logits or targets that
are no classes (a squared error between probabilities is a fair loss).
"""

from __future__ import annotations

import numpy as np

from vario.nouns import Evidence, Finding, NotApplicable
from vario.record import Record
from vario.rules._evidence import exactly, finite, tail
from vario.rules._examples import class_totals, classes

ID = "double-softmax"
CARD = {
    "papers": (),
    "reads": (
        "logits/doubled",
        "logits/largest",
        "logits/smallest",
        "logits/sum_deviation",
        "batch/class_counts",
        "loss/train",
    ),
    "checked": "closed form",
    "changed": "",
    "harm": True,
    "summary": "The loss function was given probabilities, not logits; with them its loss cannot fall below "
    "{lowest reachable loss}.",
}


def check(
    record: Record,
    *,
    deviation: float = 1e-2,  # rows of float16 and bfloat16 still sum to 1 within it; logits do not by chance
    readings: int = 3,
) -> Finding | None:
    """A finding where the loss was given probabilities at every reading."""
    doubled_at, doubled = finite(*record.series("logits/doubled"))
    if len(doubled) >= readings and float(doubled.min()) == 1:
        evidence = (
            exactly("readings with a second one in the graph", len(doubled), readings),
            *_floor(record),
        )
        return Finding(ID, "error", 0.98, (), (int(doubled_at[0]), int(doubled_at[-1])), evidence)
    given = [record.series(f"logits/{name}") for name in ("largest", "smallest", "sum_deviation")]
    if min(len(finite(*series)[1]) for series in given) < readings:
        raise NotApplicable(f"fewer than {readings} finite readings of the logits")
    (steps, largest), (_, smallest), (_, off) = (finite(*series) for series in given)
    count = classes(record)
    if count < 2:
        raise NotApplicable("the targets are no classes, so outputs in [0, 1] may be what the loss expects")
    within = float(largest.max()) <= 1 + deviation and float(smallest.min()) >= -deviation
    worst = float(off.max())
    yes_or_no = count == 2 and len(steps) >= 20 and float(np.abs(smallest).max()) == 0
    if not (within and (worst <= deviation or yes_or_no)):
        return None
    evidence = (
        exactly("deviation of row sums", worst, deviation),
        exactly("largest value given", float(largest.max()), 1.0),
        exactly("smallest value given", float(smallest.min()), 0.0),
        *_floor(record),
    )
    sure = 0.98 if worst <= deviation else 0.85
    return Finding(ID, "error", sure, (), (int(steps[0]), int(steps[-1])), evidence)


def _floor(record: Record) -> tuple[Evidence, ...]:
    """The loss of perfect answers in [0, 1], and the present one; nothing where classes are unknown."""
    totals = class_totals(record)[1].sum(axis=0)
    now = float(tail(finite(*record.series("loss/train"))[1]).mean())
    if len(totals) < 2 or not np.isfinite(now):
        return ()
    if len(totals) == 2 and not len(record.series("logits/sum_deviation")[0]):
        # One output s in [0, 1] as a logit: at best 1 for a yes, ln(1 + 1/e), and 0 for a no, ln 2.
        floor = float(totals @ (np.log(2), np.log1p(1 / np.e)) / totals.sum())
    else:
        # nll_loss, given probabilities instead of their logarithms, is their negative mean.
        floor = -1.0 if now < 0 else float(np.log1p((len(totals) - 1) / np.e))
    return (exactly("lowest reachable loss", floor, 0.0), exactly("loss at the end", now, floor))
