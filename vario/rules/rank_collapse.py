"""The representation has shrunk to very few directions.

What it means: the outputs of a layer for different examples lie on a line or nearly so; what the model
could tell apart is lost. It is the usual failure of self-supervised training without a counterforce, and
of deep nets whose signal mixes into one direction.
How it is decided: the effective rank of a layer's outputs (the exponential of the entropy of the normalised
singular values), median over the second half of the steps; the high end of its interval is below 2, or
below a twentieth of the width and of its own start, and it does not rise. Unless the training fails, it
must also have fallen to a third of its start: few inputs or one output need few directions from the first
step on. Classifiers that learn end with a rank of about the number of classes, with two below 2, which is
no collapse; layers as narrow as 3 are not judged. Or all that the next layer is given are one or two
numbers, fewer than go in, than come out in the end and than it takes to tell the classes apart (log2 of
them): what the model can say is a curve or a surface, however it is trained. Advice, as the middle of an
autoencoder may be so on purpose.
Not applicable: fewer than 5 readings of the effective rank (``rank/effective`` beside ``rank/width``), which
is read whenever a run has doubled: from about 32 steps on.
"""

from __future__ import annotations

import numpy as np

from vario.nouns import Evidence, Finding, NotApplicable
from vario.record import Record
from vario.rules._course import is_failing
from vario.rules._evidence import Steps, exactly, finite, level
from vario.rules._examples import classes, graded
from vario.rules._model import bottleneck

ID = "rank-collapse"
CARD = {
    "papers": ("P132",),
    "reads": ("rank/effective", "rank/width"),
    "checked": "equation",
    "changed": "P132 compares ranks between models; here a rank is held against its own width and start",
    "summary": "The outputs of a layer span {effective rank} directions; all goes through a layer "
    "of width {width that all goes through}.",
}


def check(
    record: Record,
    *,
    least: float = 2.0,  # one direction and some noise
    part: float = 0.05,  # collapsed runs of P132 keep a few of hundreds
    shrunk: float = 1 / 3,  # of its start: beyond what learning a task with few answers takes
    clear: float = 0.1,
    readings: int = 5,
) -> Finding | None:
    """A finding where a layer's outputs span far fewer directions than they could, or once did."""
    narrow = _too_narrow(record, least)
    try:
        return _collapsed(record, least, part, shrunk, clear, readings) or narrow
    except NotApplicable:
        if narrow is None:
            raise
        return narrow


def _too_narrow(record: Record, numbers: float) -> Finding | None:
    """A layer that hands on no more than ``numbers``, where more than that is asked of what follows."""
    where, width, given = bottleneck(record) or ("", np.inf, 0)
    if width > numbers or (given == classes(record) and width >= np.log2(given)):
        return None
    evidence = (exactly("width that all goes through", width, numbers + 1, where),)
    return Finding(ID, "advice", 0.6, (where,), (0, max(record.step_count - 1, 0)), evidence)


def _collapsed(
    record: Record, least: float, part: float, shrunk: float, clear: float, readings: int
) -> Finding | None:
    wheres = record.wheres("rank/effective")
    most = max((len(finite(*record.series("rank/effective", w))[1]) for w in wheres), default=0)
    if most < readings:
        raise NotApplicable(
            f"{most} readings of rank/effective (the effective rank of a layer's outputs); "
            f"{readings} are needed"
        )
    failing, settled = is_failing(record), classes(record) - 1 if classes(record) else np.inf
    if settled == 1 and not failing:
        return None  # two classes told apart lie on a line
    found: list[tuple[Evidence, Steps]] = []
    for where in wheres:
        steps, ranks = finite(*record.series("rank/effective", where))
        width = record.last("rank/width", where)
        if len(ranks) < readings or not width > 3:
            continue
        # Readings lie ever further apart, so the two ends are those of the steps.
        now = level(ranks[steps >= steps[-1] / 2])
        start = float(np.median(ranks[steps <= steps[0] + (steps[-1] - steps[0]) / 10]))
        # A classifier's last layers settle on one direction per class, less one.
        limit = max(least, min(part * width, part * start, settled))
        grows = ranks[-1] > (1 + clear) * ranks[0]  # a narrow net that is only slowly on its way
        if now.high < limit and not grows and (failing or now.high < shrunk * start):
            found.append((now.evidence("effective rank", limit, where), steps))
    if not found:
        return None
    worst, steps = min(found, key=lambda item: item[0].high / item[0].limit)
    sure = graded(-worst.high, -worst.limit, -1.0)
    evidence = (worst, *(e for e, _ in found if e is not worst))[:4]
    return Finding(
        ID, "warning", sure, tuple(e.where for e, _ in found), (int(steps[0]), int(steps[-1])), evidence
    )
