"""BatchNorm is trained on batches too small for its statistics.

What it means: BatchNorm normalises by the mean and variance of the batch. With a handful of examples
these are mostly noise, and they differ from the running averages that evaluation uses, so the model that
is evaluated is not the one that was trained. Group or layer normalisation does not depend on the batch.
How it is decided: BatchNorm layers are in train mode and the usual batch has fewer than 8 examples, which
puts a relative error of sqrt(2/n) on each variance. A warning where held-out loss is more than 1.5 times
the training loss at the end, advice otherwise.
Not applicable: the modules of the model, or the size of its batches, are unknown; it was read at one step
alone, with which a call before training may have been told, as one that only builds the layers.
"""

from __future__ import annotations

import numpy as np

from vario.nouns import Finding, NotApplicable, Severity
from vario.record import Record
from vario.rules._evidence import exactly, finite, level, tail
from vario.rules._examples import batch_size, graded
from vario.rules._held_out import passes
from vario.rules._model import rows

ID = "batchnorm-small-batch"
CARD = {
    "papers": ("P238", "P321", "P003"),
    "reads": ("batch/size", "mode/train_share", "loss/train", "eval/loss"),
    "checked": "closed form",
    "changed": "P238 makes batches smaller for BatchNorm on purpose (ghost batches of 32 and "
    "more); below 8 noise prevails",
    "summary": "BatchNorm takes its statistics from {examples per batch} examples, so each "
    "variance is off by {error of a variance} of itself.",
}


def check(
    record: Record,
    *,
    examples: int = 8,  # below it a variance is off by half of itself
    worse: float = 1.5,  # held-out over training loss, more than the usual gap
) -> Finding | None:
    """A finding where BatchNorm in train mode sees a handful of examples."""
    modules = rows(record, "modules")
    if not modules:
        raise NotApplicable("the modules of the model are unknown")
    names = tuple(str(m.get("name", "")) for m in modules if "BatchNorm" in str(m.get("class", "")))
    if not names:
        return None
    size = batch_size(record)
    if not np.isfinite(size):
        raise NotApplicable("the size of the batches is unknown")
    if len(record.series("batch/size")[0]) < 2:
        raise NotApplicable("the size of the batches was read at one step alone")
    modes = [
        finite(*record.series("mode/train_share", w))[1]
        for w in record.wheres("mode/train_share")
        if "BatchNorm" in w
    ]
    frozen = bool(modes) and all(len(m) and np.median(m) == 0 for m in modes)
    if frozen or not size < examples:
        return None
    off = float(np.sqrt(2 / size))
    evidence = [
        exactly("examples per batch", size, examples),
        exactly("error of a variance", off, float(np.sqrt(2 / examples))),
    ]
    severity: Severity = "advice"
    try:
        train = level(tail(finite(*record.need("loss/train"))[1]))
        _, _, losses = passes(record, "eval/loss")
        gap = float(losses[-1]) / train.value if train.value > 0 else np.nan
        evidence.append(exactly("held-out over training loss", gap, worse))
        severity = "warning" if gap > worse else "advice"
    except NotApplicable:
        severity = "advice"  # nobody evaluated, so nobody knows whether it hurts
    steps = record.series("batch/size")[0]
    sure = graded(-size, -examples, -2.0, least=0.6, most=0.9)
    return Finding(ID, severity, sure, names[:8], (int(steps[0]), int(steps[-1])), tuple(evidence))
