"""A few strange examples make up most of the loss.

What it means: in regression with a squared error, one target or input that is far off outweighs the rest of
its batch, and each such batch throws the weights about. A mistyped value, a code for "missing" (-999) or a
unit mixed up are the usual sources; a loss that grows linearly makes them harmless.
How it is decided: (1) batches in which the largest loss is more than 50 times that of the ninth decile: the
low end of their share must pass 0.02 and the largest losses must carry more of the total than chance explains
(3 ln n / n in batches of n normal errors, half as much again as their mean) and at least a third. (2) the
largest magnitude of the inputs of some batch is more than 100 times that of the usual batch. (3) the targets
of some batch spread more than 30 times as far as those of the batches read before and after it: one among 16
does that from 120 times the usual on. (4) where the loss is written by hand and shows no targets: a loss is
the square of that (900) times both the losses read before and after it and the first ones, and this happens
more than once. Steps that are too large leave the next losses high as well. Advice; a warning where (1)
carries more than two thirds of the loss. Classifiers are judged by (2) only: when most examples are learned,
one wrong one outweighs the rest as a matter of course.
Not applicable: fewer than 20 readings of losses per example of a regression in batches of 16 or more, of the
inputs, and of floating targets.
"""

from __future__ import annotations

import numpy as np

from vario.nouns import Evidence, Finding, NotApplicable, Severity
from vario.record import Record
from vario.rules._evidence import exactly, finite, share
from vario.rules._examples import batch_size, classes, graded

ID = "outlier-examples"
CARD = {
    "papers": (),
    "reads": (
        "examples/loss_quantiles",
        "loss/train",
        "input/largest",
        "input/smallest",
        "target/std",
        "batch/size",
        "batch/class_counts",
    ),
    "checked": "closed form",
    "changed": "",
    "summary": "The largest loss of each batch carries {share of loss in one example} of the whole; "
    "the largest input of some batch is {largest input over usual} times the usual one; "
    "the targets of some batch spread {largest target spread over its neighbours} times as far as those "
    "before and after; steps stand out whose loss is "
    "{second largest loss over its neighbours and the first ones} times that of their neighbours.",
}


def check(
    record: Record,
    *,
    times: float = 50.0,  # the largest of 64 squared normal errors is 4 times their ninth decile, of t(3) 10
    batches: float = 0.02,
    carried: float = 1 / 3,
    clear: float = 2 / 3,
    targets: float = 30.0,  # alone among its neighbours: targets that grow, as returns, do not count
    inputs: float = 100.0,  # pixels and standardised features stay within 10, heavy-tailed ones within 50
    readings: int = 20,
) -> Finding | None:
    """A finding where single examples dominate the loss, or single inputs their kind."""
    losses = _losses(record, times, readings)
    strange = _inputs(record, inputs, readings)
    apart = _targets(record, targets, readings) or _batches(record, targets**2, readings)
    if losses is None and strange is None and apart is None:
        raise NotApplicable(
            f"fewer than {readings} readings of losses per example of a regression, or of its inputs"
        )
    evidence: list[Evidence] = []
    sure = 0.0
    severity: Severity = "advice"
    if losses is not None:
        often, part, chance = losses
        limit = max(carried, min(chance, clear))
        evidence += [
            often.evidence("share of batches with an outlier", batches),
            exactly("share of loss in one example", part, limit),
        ]
        if often.low > batches and part > limit:
            sure = graded(part, limit, clear, least=0.7)
            severity = "warning" if part > clear else "advice"
    if strange is not None:
        evidence.append(strange)
        if strange.value > inputs:
            sure = max(sure, graded(float(np.log(strange.value / inputs)), 0.0, 2.3, least=0.7))
    if apart is not None and apart.value > apart.limit:
        evidence.append(apart)
        sure = max(sure, graded(float(np.log(apart.value / apart.limit)), 0.0, 2.3, least=0.7))
    if not sure:
        return None
    return Finding(ID, severity, sure, (), (0, max(record.step_count - 1, 0)), tuple(evidence))


def _losses(record: Record, times: float, readings: int):  # type: ignore[no-untyped-def]
    """How often one loss stands out, its part of the total, and the part that chance explains."""
    size = batch_size(record)
    steps, quantiles = record.series("examples/loss_quantiles")
    at, mean = finite(*record.series("loss/train"))
    both, a, b = np.intersect1d(steps, at, return_indices=True)
    if classes(record) or not size >= 16 or len(both) < readings or quantiles.ndim != 2:
        return None
    largest, ninth = quantiles[a][:, -1], quantiles[a][:, -2]
    good = np.isfinite(largest) & np.isfinite(ninth) & (mean[b] > 0)
    if good.sum() < readings:
        return None
    often = share(largest[good] > times * ninth[good])
    part = float(largest[good].sum() / (size * mean[b][good].sum()))
    return often, min(part, 1.0), 3 * np.log(size) / size


def _inputs(record: Record, limit: float, readings: int) -> Evidence | None:
    """The largest magnitude of any batch over that of the usual one."""
    (_, high), (_, low) = (finite(*record.series(f"input/{name}")) for name in ("largest", "smallest"))
    if min(len(high), len(low)) < readings:
        return None
    count = min(len(high), len(low))
    size = np.maximum(np.abs(high[:count]), np.abs(low[:count]))
    usual = float(np.median(size))
    return exactly("largest input over usual", float(size.max()) / usual, limit) if usual > 0 else None


def _targets(record: Record, limit: float, readings: int) -> Evidence | None:
    """The largest spread of the targets of a batch over that of the batches read before and after it."""
    spreads = finite(*record.series("target/std"))[1]
    if len(spreads) < readings:
        return None
    beside = np.maximum(np.r_[0.0, spreads[:-1]], np.r_[spreads[1:], 0.0])
    ratio = spreads[beside > 0] / beside[beside > 0]
    return exactly("largest target spread over its neighbours", float(ratio.max(initial=0.0)), limit)


def _batches(record: Record, limit: float, readings: int) -> Evidence | None:
    """The second largest loss of a step over those read before and after it, and over the first ones."""
    losses = finite(*record.series("loss/train"))[1]
    told = len(record.series("examples/loss_quantiles")[0])
    if told or classes(record) or len(losses) < readings:
        return None
    first = np.full(len(losses), np.median(losses[:readings]))
    beside = np.max([np.r_[0.0, losses[:-1]], np.r_[losses[1:], 0.0], first], axis=0)
    if not beside.min() > 0:
        return None
    second = float(np.sort(losses / beside)[-2])
    return exactly("second largest loss over its neighbours and the first ones", second, limit)
