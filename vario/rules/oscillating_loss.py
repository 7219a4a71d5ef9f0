"""The training loss swings up and down without settling.

What it means: what one stretch of the run wins, the next one loses. Usually the steps are too large, the
batches too small, or the data come in an order.
How it is decided: the second half of the steps is cut into up to 25 blocks, each a median, so that the
noise of single batches drops out. A swing is a rise from a low block to a high one that is more than a
quarter of all that the run ever won (starting loss minus lowest level), and more than the noise within
blocks explains. There must be at least two, with a fall of that size between them: a single rise or a
steep descent is no oscillation.
Not applicable: fewer than 100 readings of the training loss, or 50 in the second half, which are too few
to tell a swing from noise; a loss that never fell (there is nothing to compare the swing with).
"""

from __future__ import annotations

import numpy as np

from vario.nouns import Finding, NotApplicable
from vario.record import Record
from vario.rules._course import course
from vario.rules._evidence import Estimate, confidence, exactly, finite, level

ID = "oscillating-loss"
CARD = {
    "papers": ("P345",),
    "reads": ("loss/train", "gradient/cosine"),
    "checked": "closed form: a sine around a level, white noise around a level",
    "changed": "",
    "alone": True,
    "summary": "The loss swings by {swing of the loss} in the second half of the run, {swing "
    "over progress} of all that "
    "it ever won.",
}


def check(
    record: Record,
    *,
    part: float = 0.25,  # of all progress; a swing below it costs less than a tenth of a run
    excess: float = 6.0,  # standard errors of a block; 25 blocks of mere noise span four of them
    times: int = 2,
) -> Finding | None:
    """A finding where slow swings of the loss are large against what the run has won."""
    run = course(record, count=100)
    won = run.start.value - run.lowest
    if run.state in ("non-finite", "worse") or won <= 0:
        raise NotApplicable("the loss never fell, so there is nothing to compare a swing with")
    later = run.steps >= run.steps[-1] / 2
    values, steps = run.values[later], run.steps[later]
    if len(values) < 50:
        raise NotApplicable(f"{len(values)} readings of loss/train in the second half; 50 are needed")
    edges = np.linspace(0, len(values), min(25, len(values) // 5) + 1).astype(int)
    pieces = [values[a:b] for a, b in zip(edges[:-1], edges[1:], strict=True)]
    spread = np.median([1.4826 * np.median(np.abs(p - np.median(p))) for p in pieces])
    error = 1.25 * float(spread) / np.sqrt(len(values) / len(pieces))  # of the median of a block
    limit = max(part * won, excess * error)
    rises = _rises([float(np.median(p)) for p in pieces], limit)
    if len(rises) < times:
        return None
    swing = float(np.median(rises))
    found = Estimate(swing, max(swing - 2 * error, 0.0), swing + 2 * error)
    evidence = [
        found.evidence("swing of the loss", limit),
        exactly("swing over progress", swing / won, part),
        exactly("number of swings", len(rises), times),
    ]
    cosine = finite(*record.series("gradient/cosine"))[1]
    if len(cosine) >= 6:
        evidence.append(level(cosine).evidence("cosine of successive gradients", 0.0))
    sure = confidence(swing, limit, least=0.6, most=0.9)
    return Finding(ID, "warning", sure, (), (int(steps[0]), int(steps[-1])), tuple(evidence))


def _rises(values: list[float], limit: float) -> list[float]:
    """Sizes of the rises of at least ``limit``, each ended by a fall of at least ``limit`` or "
    "by the end."""
    found: list[float] = []
    low = high = values[0]
    rising = False
    for value in values[1:]:
        if rising:
            high = max(high, value)
            if high - value >= limit:
                found.append(high - low)
                rising, low = False, value
        else:
            low = min(low, value)
            if value - low >= limit:
                rising, high = True, value
    return [*found, high - low] if rising else found
