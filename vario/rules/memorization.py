"""The model answers its training examples from memory.

What it means: part of the training examples are right only because they were trained on. Averaged over
examples, that part is training accuracy less held-out accuracy: the mean of the memorization score, the
chance of being right with the example in the training set less that without it. Some memory is needed
for rare cases; much of it means too few examples, wrong labels, or too many passes.
How it is decided: training accuracy over the steps since the evaluation before the last is at least 0.95,
and exceeds held-out accuracy by more than 0.1 at the low end of the interval. A warning from 0.2 on,
advice below. Where too few training examples were looked at one by one, their mean loss L bounds the
accuracy from below: an example that is wrong has its label below one half and costs at least ln 2, so
that accuracy is at least 1 - L / ln 2.
Not applicable: no training accuracy, or no held-out accuracy; the two were measured on too few examples;
batches are sorted by class.
"""

from __future__ import annotations

import numpy as np

from vario.nouns import Evidence, Finding, NotApplicable, Severity
from vario.record import Record
from vario.rules._evidence import Estimate, finite, level, tail
from vario.rules._examples import batch_size, classes, graded, plain_loss, train_accuracy
from vario.rules._held_out import accuracy_at, passes
from vario.rules._mixing import sorting

ID = "memorization"
CARD = {
    "papers": ("P070", "P080"),
    "reads": ("accuracy/train", "eval/accuracy", "eval/examples", "batch/size"),
    "checked": "equation",
    "changed": "P070 (with its estimator) scores each example by many models trained with and "
    "without it; one run gives only the mean",
    "summary": "{mean memorization:%} of the training examples are right from memory: they would be"
    " wrong if they had not been trained on.",
}


def check(
    record: Record,
    *,
    much: float = 0.1,  # healthy classifiers of real data stay within a few points
    clear: float = 0.2,
    fitted: float = 0.95,  # below, examples are still being learned rather than stored
    examples: int = 100,  # of training: an accuracy of 0.97 is then known to 0.04
) -> Finding | None:
    """A finding where nearly all training examples are right and held-out ones are not."""
    where, steps, _ = passes(record, "eval/accuracy")
    mixed = sorting(record)
    if mixed is not None and mixed.low > 0.3:
        raise NotApplicable("the batches are sorted by class, so training accuracy is that of the last class")
    counts = finite(*record.series("accuracy/train"))[0]
    # Since the evaluation before the last, or the last tenth of the run where there was only one.
    start = float(steps[-2]) if len(steps) > 1 and steps[-2] < steps[-1] else 0.9 * float(steps[-1])
    before = counts[counts <= steps[-1]]
    wanted = int(np.ceil(examples / max(np.nan_to_num(batch_size(record)), 1.0)))
    if len(before) >= wanted:
        # Training gets better with time, so older readings bound what was memorized from below.
        start = min(start, float(before[-wanted]) - 1)
    seen = max(_seen(record, start, float(steps[-1])), key=lambda estimate: estimate.low)
    unseen = accuracy_at(record, where, float(steps[-1]))
    value = seen.value - unseen.value
    low = value - float(np.hypot(seen.value - seen.low, unseen.high - unseen.value))
    high = value + float(np.hypot(seen.high - seen.value, unseen.value - unseen.low))
    if seen.value < fitted or low <= much:
        return None
    evidence = (
        Evidence("mean memorization", value, low, high, much, where),
        seen.evidence("training accuracy", fitted),
        unseen.evidence("held-out accuracy", seen.value - much, where),
    )
    severity: Severity = "warning" if low >= clear else "advice"
    return Finding(
        ID, severity, graded(low, much, 0.4, most=0.9), (), (int(max(start, 0)), int(steps[-1])), evidence
    )


def _seen(record: Record, start: float, last: float) -> list[Estimate]:
    """Training accuracy as it was counted, and as far as the mean loss vouches for it."""
    found: list[Estimate] = []
    losses = tail(finite(*record.series("loss/train"))[1])
    if classes(record) and len(losses) >= 10 and plain_loss(record):
        loss = level(losses)
        bounds = (1 - value / float(np.log(2)) for value in (loss.value, loss.high, loss.low))
        found.append(Estimate(*(max(bound, 0.0) for bound in bounds)))
    try:
        found.append(train_accuracy(record, start, last))
    except NotApplicable:
        if not found:
            raise
    return found
