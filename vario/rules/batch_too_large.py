"""The batch is far larger than the gradient noise asks for.

What it means: the examples of a batch say the same thing, and the run ended while its loss was still falling.
Smaller batches would have left it more steps for the same examples.
How it is decided: mean noise over mean signal of the gradient (the noise scale) in the last half, at most 200
readings, with a 95 % interval over blocks. Fires when its high end lies below a quarter of the examples
of a step: more than four fifths of the examples then bring nothing. Nor would more steps where the loss has
come to rest; so in a run that learns it must have fallen over its last third by 5 % of all that was won, at
the near end of its interval. Where noise and signal were not read,
three cosines between successive gradients of the second half do as well, in a run that learns: two that
share a signal S and have noise N / B each have one of S / (S + N / B) at most, so that N / S is
B (1 / cosine - 1) at most; a gradient that turned between the two makes it less. In a run of few steps these
may be the last three of all, after the first quarter: the cosines fall as the loss does.
Not applicable: fewer than 8 readings of noise and signal in the second half, and fewer than 3 cosines, or
none of other rows (gradients of the same rows are alike whatever their noise); a signal that cannot be told
from zero; steps of one example.
"""

from __future__ import annotations

import numpy as np

from vario.nouns import Finding, NotApplicable
from vario.record import Record
from vario.rules._course import course, is_failing
from vario.rules._evidence import Estimate, confidence, exactly, finite, level, trend
from vario.rules._examples import batch_size
from vario.rules._mixing import drawn_anew
from vario.rules._noise import noise_scale

ID = "batch-too-large"
CARD = {
    "papers": ("P173", "P176"),
    "reads": (
        "gradient_noise/signal",
        "gradient_noise/noise",
        "gradient/cosine",
        "batch/size",
        "loss/train",
        "input/mean",
        "target/mean",
        "batch/class_counts",
    ),
    "checked": "closed form: Gaussian signal and noise of known size",
    "changed": "an interval over blocks, and no verdict without a signal",
    "summary": "The noise scale is {noise scale} examples; a step uses {examples per step}, and the loss was "
    "still falling at the end.",
}


def check(
    record: Record,
    *,
    part: float = 0.25,
    left: float = 0.05,  # of what was won: a fall that counts as clear (`rules/_course.py`)
) -> Finding | None:
    """A finding where the noise scale is far below the batch, and more steps would have helped."""
    found = _found(record, part)
    return found if found is not None and _would_go_on(record, left) else None


def _would_go_on(record: Record, left: float) -> bool:
    """Whether the run failed, or its loss was still falling at the end; so where it is too short to tell."""
    try:
        run = course(record, count=5)
    except NotApplicable:
        return True
    last = max(len(run.values) // 3, 3)
    fall = trend(run.steps[-last:], run.values[-last:])
    return run.failing or fall.high < -left * (run.start.value - run.lowest)


def _found(record: Record, part: float) -> Finding | None:
    try:
        found = noise_scale(record)
    except NotApplicable as reason:
        return _by_cosines(record, part, reason)
    if not found.resolved:
        raise NotApplicable(f"the gradient's signal ({found.signal.value:.3g}) cannot be told from zero")
    if found.batch < 2:
        raise NotApplicable("a step uses one example: no smaller batch can be had")
    limit = part * found.batch
    if found.scale.high >= limit:
        return None
    evidence = (
        found.scale.evidence("noise scale", limit),
        exactly("examples per step", found.batch, found.scale.high / part),
    )
    sure = confidence(limit, max(found.scale.high, 1e-30), least=0.75)
    return Finding(ID, "advice", sure, (), found.steps, evidence)


def _by_cosines(record: Record, part: float, reason: NotApplicable, *, count: int = 3) -> Finding | None:
    steps, cosines = finite(*record.series("gradient/cosine"))
    late = steps >= record.step_count / 2
    if late.sum() < count:
        late = (steps >= record.step_count / 4) & (np.arange(len(steps)) >= len(steps) - count)
    steps, cosines = steps[late], cosines[late]
    backwards = finite(*record.series("loss/backwards"))[1]
    batch = batch_size(record) * max(float(np.median(backwards)) if len(backwards) else 1.0, 1.0)
    if len(cosines) < count or not batch >= 2 or not drawn_anew(record, batch):
        raise reason
    found = level(cosines)
    if found.low <= 1 / (1 + part) or is_failing(record, unknown=True):
        return None
    scale = Estimate(*(batch * (1 / min(c, 1.0) - 1) for c in (found.value, found.high, found.low)))
    evidence = (
        scale.evidence("noise scale", part * batch),
        exactly("examples per step", batch, scale.high / part),
        found.evidence("cosine of successive gradients", 1 / (1 + part)),
    )
    span = (int(steps[0]), int(steps[-1]))
    return Finding(ID, "advice", 0.75, (), span, evidence)
