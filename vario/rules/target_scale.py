"""Targets of the regression are far from unit size.

What it means: the last layer starts with outputs of about 1. Targets in the hundreds or thousands make
the first losses and gradients huge (they grow with the square), and the weights must travel far before
anything is learned; tiny targets drown in the noise of the first outputs. Standardise the targets and
scale predictions back.
How it is decided: the typical magnitude of the targets (root of mean^2 + std^2, median of the readings)
is above 100, or below 0.001. A warning where the run fails, advice where it trains all the same (tiny
targets are named only where it fails).
Not applicable: no floating targets were seen.
"""

from __future__ import annotations

import numpy as np

from vario.nouns import Finding, NotApplicable
from vario.record import Record
from vario.rules._course import is_failing
from vario.rules._evidence import finite, level
from vario.rules._examples import graded

ID = "target-scale"
CARD = {
    "papers": (),
    "reads": ("target/mean", "target/std", "loss/train"),
    "checked": "closed form",
    "changed": "",
    "summary": "The targets have a typical magnitude of {target magnitude}; the model starts with"
    " outputs of about 1.",
}


def check(
    record: Record,
    *,
    large: float = 100.0,  # the first squared losses are 10,000 times those of standardised targets
    small: float = 1e-3,  # the first outputs miss by a thousand times what there is to learn
    readings: int = 3,
) -> Finding | None:
    """A finding where targets are far larger or smaller than first outputs."""
    steps, means = finite(*record.need("target/mean", readings))
    _, stds = finite(*record.need("target/std", readings))
    count = min(len(means), len(stds))
    if count < readings:
        raise NotApplicable(f"fewer than {readings} finite readings of the targets")
    size = level(np.hypot(means[:count], stds[:count]))
    failing = is_failing(record)
    if size.low > large:
        limit, beyond = large, size.low / large
    elif 0 < size.high < small and failing:
        limit, beyond = small, small / size.high
    else:
        return None
    sure = graded(float(np.log(beyond)), 0.0, 2.3, least=0.7)
    span = (int(steps[0]), int(steps[-1]))
    evidence = (size.evidence("target magnitude", limit),)
    return Finding(ID, "warning" if failing else "advice", sure, (), span, evidence)
