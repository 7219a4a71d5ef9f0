"""The training loss swings up and down without settling.

What it means: what one stretch of the run wins, the next one loses. Usually the steps are too large, the
batches too small, or the data come in an order.
How it is decided: the second half of the run is cut into blocks (up to 50 over the whole run, each a
median, so that the noise of single batches drops out). The swing is the spread between the 10th and 90th
percentile of the blocks around their own trend. It must exceed a quarter of all that the run ever won
(starting loss minus lowest level), and neighbouring blocks must differ by more than their own noise
explains.
Not applicable: fewer than 100 readings of the training loss, which are too few to tell a swing from
noise; a loss that never fell (there is nothing to compare the swing with).
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
    excess: float = 2.0,  # times the spread that the noise within blocks alone gives
) -> Finding | None:
    """A finding where slow swings of the loss are large against what the run has won."""
    run = course(record, count=100)
    won = run.start.value - run.lowest
    if run.state in ("non-finite", "worse") or won <= 0:
        raise NotApplicable("the loss never fell, so there is nothing to compare a swing with")
    values, steps = run.values[len(run.values) // 2 :], run.steps[len(run.values) // 2 :]
    blocks = min(25, len(values) // 5)
    edges = np.linspace(0, len(values), blocks + 1).astype(int)
    pieces = [values[a:b] for a, b in zip(edges[:-1], edges[1:], strict=True)]
    medians = np.array([np.median(p) for p in pieces])
    line = np.polynomial.Polynomial.fit(np.arange(blocks), medians, 1)(np.arange(blocks))
    swing = float(np.subtract(*np.quantile(medians - line, (0.9, 0.1))))
    inside = np.median([1.4826 * np.median(np.abs(p - np.median(p))) / np.sqrt(len(p)) for p in pieces])
    expected = 2.56 * 1.25 * float(inside)  # 10-90 spread of medians of white noise
    if swing <= part * won or swing <= excess * expected:
        return None
    found = Estimate(swing, max(swing - expected, 0.0), swing + expected)
    evidence = [
        found.evidence("swing of the loss", part * won),
        exactly("swing over progress", swing / won, part),
    ]
    cosine = finite(*record.series("gradient/cosine"))[1]
    if len(cosine) >= 6:
        evidence.append(level(cosine).evidence("cosine of successive gradients", 0.0))
    sure = confidence(swing / won, part, least=0.6, most=0.9)
    return Finding(ID, "warning", sure, (), (int(steps[0]), int(steps[-1])), tuple(evidence))
