"""Softmax has collapsed: the loss of most examples is exactly zero.

What it means: logits have grown until exp() of all others vanishes beside that of the label in float32.
Such an example has no loss and no gradient left, although the model may not generalise yet, so training
stops by rounding and not because it is done. Larger logits are the only direction that was left.
How it is decided: training accuracy is at least 0.99 and the share of examples with a loss of exactly 0
is above 0.3 over the last readings (interval over blocks). A warning where held-out accuracy is more than
0.1 below training accuracy, since then something was left to learn; advice otherwise.
Not applicable: fewer than 10 readings of the share, as with losses that are not per class.
"""

from __future__ import annotations

import numpy as np

from vario.nouns import Finding, NotApplicable, Severity
from vario.record import Record
from vario.rules._evidence import finite, first_step, level, need_finite, tail
from vario.rules._examples import graded
from vario.rules._held_out import accuracy_at, held_out

ID = "softmax-collapse"
CARD = {
    "papers": ("P064",),
    "reads": ("examples/zero_loss_share", "accuracy/train", "eval/accuracy", "logits/largest"),
    "checked": "closed form",
    "changed": "P064 counts correct examples whose float32 softmax sum is exactly 1; a loss of "
    "exactly 0 is the same event.",
    "summary": "{share with zero loss} of the training examples have a loss of exactly 0 and "
    "teach nothing any more.",
}


def check(
    record: Record,
    *,
    collapsed: float = 0.3,  # P064's runs stop generalising from about there (0.51 in one that never did)
    learned: float = 0.99,  # before, zero-loss examples are outvoted by those that still have a gradient
    gap: float = 0.1,  # beyond what healthy classifiers show between training and held-out accuracy
) -> Finding | None:
    """A finding where training goes on with examples that have no loss left."""
    steps, zero = need_finite(*record.need("examples/zero_loss_share", 10), 10, "examples/zero_loss_share")
    right = tail(finite(*record.series("accuracy/train"))[1])
    if len(right) and float(right.mean()) < learned:
        return None
    found = level(tail(zero))
    if not found.low > collapsed:
        return None
    evidence = [found.evidence("share with zero loss", collapsed)]
    severity: Severity = "advice"
    try:
        behind = accuracy_at(record, held_out(record, "eval/accuracy"), np.inf)
        left = (float(right.mean()) if len(right) else 1.0) - behind.high
        evidence.append(behind.evidence("held-out accuracy", learned - gap))
        severity = "warning" if left > gap else "advice"
    except NotApplicable:
        severity = "advice"  # without held-out data nobody knows whether anything was left to learn
    start = first_step(steps, zero > collapsed, lasting=3)
    span = (int(steps[-1]) if start is None else start, int(steps[-1]))
    return Finding(ID, severity, graded(found.low, collapsed, 0.8), (), span, tuple(evidence))
