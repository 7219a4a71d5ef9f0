"""Single gradients far larger than any before.

What it means: a few batches throw the model off its way. Their examples, or a layer that has become
unstable, deserve a look; clipping limits the harm.
How it is decided: the norm of the gradient (before clipping, where that is known) stands more than 10
usual deviations above the block of 50 readings before it (of 20, of fewer than 100), and at the same time
more than 5 times above the highest level that the run had seen until then, or than the largest of so many
readings would be by chance, by their spread within blocks, as log-normal ones. Late in a run single hard
examples stand out only because all else is learned. Nor is it a spike where gradients stay as large, as when
a run begins to learn, unless the loss rose. Where there are spikes, what stands out of the first block alike
is told as well. A spike names its step and the layers whose gradient stood out most. It is a warning where
the loss rose with it, advice otherwise.
Not applicable: fewer than 40 readings of the gradient's norm.
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vario.nouns import Evidence, Finding, NotApplicable
from vario.record import Record
from vario.rules._course import course
from vario.rules._evidence import Floats, Mask, Steps, exactly, need_finite, spikes

ID = "gradient-spikes"
CARD = {
    "papers": ("P005",),
    "reads": ("clipping/norm_before", "gradient/norm", "loss/train"),
    "checked": "closed form: planted spikes in log-normal noise",
    "changed": "Stable-SPAM judges entries against their own second moment; here whole steps are judged",
    "summary": "The gradient at step {step of the largest spike} was {largest spike over the "
    "level before} times what "
    "was usual until then.",
}


class _Spikes(NamedTuple):
    steps: Steps  # of the spikes, those of the first block included
    largest: int  # step of the largest that can be judged
    times: float  # it over the highest level before
    limit: float
    hurt: bool


def check(record: Record, *, times: float = 5.0) -> Finding | None:
    """A finding where some gradients stood far above all before them."""
    found = _spikes(record, times)
    if found is None:
        return None
    evidence: list[Evidence] = [
        exactly("largest spike over the level before", found.times, found.limit),
        exactly("step of the largest spike", found.largest, found.largest),
        exactly("number of spikes", len(found.steps), 0),
    ]
    sure = round(min(0.7 + 0.05 * np.log2(found.times / found.limit), 0.95), 3)
    layers = _layers(record, found.largest)
    return Finding(
        ID,
        "warning" if found.hurt else "advice",
        sure,
        layers,
        (int(found.steps[0]), int(found.steps[-1])),
        tuple(evidence),
    )


def spike_steps(record: Record) -> list[int]:
    """The steps of the spikes, as far as they were read."""
    try:
        found = _spikes(record)
    except NotApplicable:
        return []
    return [] if found is None else [int(step) for step in found.steps]


def _spikes(
    record: Record,
    times: float = 5.0,  # above the highest level before; log-normal noise of a batch stays below 3
    *,
    deviations: float = 10.0,
    many: int = 50,  # readings of a block
    few: int = 20,  # of one where there are too few for two of the others
) -> _Spikes | None:
    clipped = len(record.series("clipping/norm_before")[0]) >= 2 * few
    name = "clipping/norm_before" if clipped else "gradient/norm"
    steps, norms = need_finite(*record.need(name, 2 * few), 2 * few, name)
    window = many if len(norms) >= 2 * many else few
    highest = highest_before(norms, window)
    times = max(times, _by_chance(norms, window))
    found = spikes(norms, deviations, window) & (norms > times * highest)
    hurt = bool(found.any()) and _loss_rose(record, steps[found])
    if not hurt:
        found &= norms > times * level_after(norms, window)
    if not found.any():
        return None
    places = np.flatnonzero(found)
    largest = int(places[norms[places].argmax()])
    places = np.concatenate([_among_the_first(norms[:window], deviations, times), places])
    return _Spikes(steps[places], int(steps[largest]), float(norms[largest] / highest[largest]), times, hurt)


def _by_chance(norms: Floats, window: int, *, error: float = 0.01) -> float:
    """How far above their level the largest of so many readings lies by chance, where they vary alike.

    As a log-normal quantity does: some losses give gradients that differ tenfold from batch to batch.
    """
    positive = norms[norms > 0]
    blocks = np.log(positive[: len(positive) // window * window].reshape(-1, window))
    if not len(blocks):
        return 1.0
    apart = np.abs(blocks - np.median(blocks, axis=1, keepdims=True))
    spread = 1.4826 * float(np.median(np.median(apart, axis=1)))
    return math.exp(min(spread * NormalDist().inv_cdf(1 - error / len(norms)), 500.0))


def _among_the_first(norms: Floats, deviations: float, times: float) -> NDArray[np.intp]:
    """Those of the first block that stand out of it alike, but for a run that begins with large ones."""
    usual = float(np.median(norms))
    spread = 1.4826 * float(np.median(np.abs(norms - usual)))
    above = (norms > usual + deviations * spread) & (norms > times * usual)
    return np.flatnonzero(above & np.maximum.accumulate(~above))


def highest_before(values: Floats, window: int) -> Floats:
    """For each reading the highest median of any full block of readings before it."""
    blocks = len(values) // window
    medians = np.median(values[: blocks * window].reshape(blocks, window), axis=1)
    highest = np.maximum.accumulate(medians)
    before = np.minimum(np.arange(len(values)) // window - 1, blocks - 1)
    return np.where(before >= 0, highest[np.maximum(before, 0)], np.inf)


def level_after(values: Floats, window: int, *, least: int = 5) -> Floats:
    """For each reading the median of the block that follows it; 0 where ``least`` do not follow."""
    padded = np.concatenate([values[1:], np.full(window, np.nan)])
    blocks = np.lib.stride_tricks.sliding_window_view(padded, window)[: len(values)]
    known = np.isfinite(blocks).sum(axis=1) >= least
    after = np.zeros(len(values))
    after[known] = np.nanmedian(blocks[known], axis=1)
    return after


def _loss_rose(record: Record, at: Steps) -> bool:
    """Whether the loss after a spike lay above the loss before it by more than its usual noise."""
    run = course(record, count=50)
    for step in at[:20]:
        before = run.values[(run.steps < step) & (run.steps >= step - 20)]
        after = run.values[(run.steps > step) & (run.steps <= step + 10)]
        if len(before) >= 5 and len(after) >= 3:
            usual: float = float(np.median(np.abs(before - np.median(before)))) * 1.4826
            if np.median(after) > np.median(before) + max(4 * usual, 0.05 * abs(run.start.value)):
                return True
    return False


def _layers(record: Record, step: int, count: int = 3) -> tuple[str, ...]:
    """Parameters whose gradient at ``step`` stood out most against their own median."""
    stood: dict[str, float] = {}
    for where in record.wheres("gradient/norm"):
        steps, values = record.series("gradient/norm", where)
        here: Mask = steps == step
        usual = float(np.nanmedian(values)) if len(values) else 0.0
        if where and here.any() and usual > 0:
            stood[where] = float(values[here][0]) / usual
    return tuple(sorted(stood, key=lambda w: -stood[w])[:count])
