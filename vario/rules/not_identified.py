"""A quantity was asked for that the record cannot resolve.

What it means: its interval is so wide that no decision can rest on it. Measuring longer, more often or
with more examples narrows it.
How it is decided: the noise scale: the signal of the gradient cannot be told from zero, so the scale has
no upper end. The accuracy in evaluation: the 95 % interval (Wilson) of the last pass is wider than 20
points, which fewer than about 100 examples give.
Not applicable: neither the gradient's noise (30 readings) nor an evaluation accuracy was recorded.
"""

from __future__ import annotations

import numpy as np

from vario.nouns import Evidence, Finding, NotApplicable
from vario.record import Record
from vario.rules._examples import rate
from vario.rules._noise import noise_scale

ID = "not-identified"
CARD = {
    "papers": ("P173",),
    "reads": ("gradient_noise/signal", "gradient_noise/noise", "eval/accuracy", "eval/examples"),
    "checked": "closed form: Wilson's interval; Gaussian noise without a signal",
    "changed": "",
    "summary": "What was recorded does not settle {quantities that are not settled} of the "
    "quantities asked for.",
}


def check(record: Record, *, widest: float = 0.2) -> Finding | None:
    """A finding naming each quantity whose interval is too wide to decide on."""
    evidence: list[Evidence] = []
    asked = 0
    try:
        found = noise_scale(record, count=30)  # with fewer, nobody measured long enough to complain
    except NotApplicable as reason:
        missing = str(reason)
    else:
        asked, missing = 1, ""
        if not found.resolved:
            evidence.append(found.scale.evidence("noise scale", np.inf))
    for where in record.wheres("eval/accuracy"):
        asked += 1
        accuracy, count = record.last("eval/accuracy", where), record.last("eval/examples", where)
        interval = rate(accuracy, count)
        if interval.high - interval.low > widest:
            evidence.append(interval.evidence("accuracy in evaluation", widest, where))
    if not asked:
        raise NotApplicable(f"no evaluation accuracy; {missing}")
    if not evidence:
        return None
    total = Evidence("quantities that are not settled", len(evidence), len(evidence), len(evidence), 0)
    last = max(record.step_count - 1, 0)
    return Finding(
        ID, "advice", 0.95, tuple(e.where for e in evidence if e.where), (0, last), (total, *evidence)
    )
