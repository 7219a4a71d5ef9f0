"""Gradients are not cleared between steps: every step adds up all gradients since the start.

What it means: `optimizer.zero_grad()` is missing, or is called in the wrong place. The steps grow with
every iteration and follow gradients of weights that are long gone.
How it is decided: before the first backward pass of a step the gradients still held what an earlier step
left. That is so at more than half of the steps (lower end of the interval), and what was carried is
typically more than 10 % of the gradient that the step then used. Accumulating over several backward
passes on purpose leaves nothing behind after the step, and is not this.
Not applicable: fewer than 4 steps on which the gradients before the first backward pass were looked at.
"""

from __future__ import annotations

import numpy as np

from vario.nouns import Evidence, Finding
from vario.record import Record
from vario.rules._evidence import finite, level, need_finite, share

ID = "gradients-accumulate"
CARD = {
    "papers": (),
    "reads": ("gradient/carried", "gradient/norm"),
    "checked": "closed form: a sum of equal gradients carries k / (k + 1) of itself",
    "changed": "",
    "harm": True,
    "summary": "At {share of steps with carried gradients} of the steps the gradients of "
    "earlier steps were still there; they made "
    "up {carried gradient} of the gradient.",
}


def check(
    record: Record,
    *,
    often: float = 0.5,  # a skipped clearing now and then (a skipped step of a GradScaler) is no illness
    carried: float = 0.1,
    readings: int = 4,  # the value is exact; four of four put the low end of their share above a half
) -> Finding | None:
    """A finding where most steps start from gradients that were never cleared."""
    steps, values = record.need("gradient/carried", readings)
    # The norm may have overflowed by then: infinite is carried as well, NaN is unknown.
    values = np.where(np.isinf(values), 1.0, values)
    steps, values = need_finite(steps, values, readings, "gradient/carried")
    later = values[steps > 0] if (steps > 0).sum() >= readings else values
    held, typical = share(later > 0), level(later)
    if held.low <= often or typical.value <= carried:
        return None
    evidence: list[Evidence] = [
        held.evidence("share of steps with carried gradients", often),
        typical.evidence("carried gradient", carried),
    ]
    norms = finite(*record.series("gradient/norm"))[1]
    if len(norms) >= 10:
        evidence.append(
            level(norms[-len(norms) // 5 :]).evidence("gradient norm at the end", float(np.median(norms[:5])))
        )
    first = int(steps[(values > 0).argmax()])
    return Finding(ID, "error", 0.97, (), (first, int(steps[-1])), tuple(evidence))
