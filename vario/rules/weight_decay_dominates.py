"""Weight decay shrinks the weights faster than the gradient builds them.

What it means: the pull towards zero wins; what the data teach is forgotten within a few steps.
How it is decided: only in a run that fails or has lost less than half of its starting loss, and whose
weights have shrunk to less than half of their norm. While they fell (the first half of the way, in
logarithms; at the end decay and gradient are in balance whatever their size) the pull of the decay is
compared with the gradient: coefficient times norm of the weights over norm of the gradient where the decay
is part of the gradient (limit 0.5), and rate times coefficient over the update ratio where it is applied
apart, as in AdamW (limit 0.1; at the usual settings it is 0.002). Where less than a hundredth of the norm
is left the pull needs no comparing: no gradient brings every weight to zero.
Not applicable: no weight decay is set, or fewer than 5 readings of gradient, update or weights.
"""

from __future__ import annotations

import numpy as np

from vario.nouns import Finding, NotApplicable, Severity
from vario.record import Record
from vario.rules._course import course
from vario.rules._evidence import Estimate, confidence, exactly, level, need_finite
from vario.rules._parameters import optimizer_name

ID = "weight-decay-dominates"
CARD = {
    "papers": ("P081",),
    "reads": ("hyper/weight_decay", "hyper/lr", "gradient/norm", "update/ratio", "weight/norm", "loss/train"),
    "checked": "closed form: exponential shrinking without a gradient",
    "changed": "",
    "summary": "With a weight decay of {weight decay} its pull is {pull of the decay} of the "
    "step, and the weights shrank "
    "to {weight norm over its start} of their norm.",
}


def check(
    record: Record,
    *,
    coupled: float = 0.5,  # at a minimum of loss plus penalty it is 1, but batches' noise keeps it below
    apart: float = 0.1,
    shrunk: float = 0.5,
    gone: float = 0.01,
    slow: float = 0.5,
) -> Finding | None:
    """A finding where decay outweighs the gradient and the run learns little."""
    decay = record.last("hyper/weight_decay", "group 0")
    if not decay > 0:
        raise NotApplicable("no weight decay is set in the first parameter group")
    at, weight = need_finite(*record.need("weight/norm", 5), 5, "weight/norm")
    run = course(record)
    if not run.failing and not run.won < slow:
        return None
    left = float(weight[-1] / max(weight[0], 1e-30))
    if left >= shrunk:
        return None
    split = "adamw" in optimizer_name(record)
    until = int(at[(weight > weight[0] * np.sqrt(left)).nonzero()[0][-1]])
    pull = _pull_apart(record, decay, until) if split else _pull_coupled(record, decay, until)
    limit = apart if split else coupled
    if pull.low <= limit and left > gone:
        return None
    evidence = (
        exactly("weight decay", decay, decay * limit / pull.value),
        pull.evidence("pull of the decay", limit),
        exactly("weight norm over its start", left, shrunk),
    )
    severity: Severity = "error" if run.failing else "warning"
    sure = 0.95 if left <= gone else confidence(pull.value, limit, least=0.75, most=0.95)
    return Finding(ID, severity, sure, ("group 0",), (0, record.step_count - 1), evidence)


def _pull_coupled(record: Record, decay: float, until: int) -> Estimate:
    steps, gradient = need_finite(*record.need("gradient/norm", 5), 5, "gradient/norm")
    weight_steps, weight = record.series("weight/norm")
    at = np.interp(steps, weight_steps, weight)
    pull = decay * at / np.maximum(gradient, 1e-30)
    return level(pull[: max(int((steps <= until).sum()), 5)])


def _pull_apart(record: Record, decay: float, until: int) -> Estimate:
    steps, ratio = need_finite(*record.need("update/ratio", 5), 5, "update/ratio")
    rate_steps, rate = record.need("hyper/lr", 1, "group 0")
    at = np.interp(steps, rate_steps, rate)
    pull = decay * at / np.maximum(ratio, 1e-30)
    return level(pull[: max(int((steps <= until).sum()), 5)])
