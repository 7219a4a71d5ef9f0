"""The training loss jumps up, for a step or for a while.

What it means: at single steps the model lost much of what it had learned, or met examples that it cannot
fit.
How it is decided: the loss stands more than 8 usual deviations above the block of 50 readings before it,
and the jump is more than half of all that had been won until then (starting loss minus level before). Where
the noise of single readings hides that, a loss that stays up shows it: three quarters of the eight readings
from a step on lie as far above the median of the twenty before it, by 8 standard errors of the difference. A
spike names its step and the layers whose gradient stood out at that step. A single reading must stand out in
the logarithm of the loss as well: one that differs by factors from batch to batch (few examples, inputs of
heavy tails, nearly all learned) jumps as a matter of course. A warning where more than two do, one after
another or apart; advice otherwise.
Not applicable: fewer than 100 readings of the training loss; several models trained against each other.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from vario.nouns import Evidence, Finding, NotApplicable, Severity
from vario.record import Record
from vario.rules._course import Course, course
from vario.rules._evidence import Floats, Mask, exactly, spikes
from vario.rules.gradient_spikes import _layers

ID = "loss-spikes"
STAYS = 8  # readings; those that lie closer together are one jump
CARD = {
    "papers": ("P005",),
    "reads": ("loss/train", "gradient/norm"),
    "checked": "closed form: planted spikes in noise around a falling line",
    "changed": "",
    "alone": True,
    "summary": "At step {step of the largest spike} the loss jumped to {loss at the largest "
    "spike}, from a level of "
    "{level before it}.",
}


def check(record: Record, *, rare: int = 2) -> Finding | None:
    """A finding where the loss jumped by a large part of what had been won."""
    run, found, single, before, won, part = _found(record)
    if not found.any():
        return None
    places = np.flatnonzero(found)
    largest = int(places[(run.values - before)[places].argmax()])
    step = int(run.steps[largest])
    evidence: list[Evidence] = [
        exactly("step of the largest spike", step, step),
        exactly("loss at the largest spike", run.values[largest], before[largest] + part * won[largest]),
        exactly("level before it", before[largest], before[largest]),
        exactly("number of spikes", 1 + int((np.diff(places) > STAYS).sum()), 1),
    ]
    often = int((found & single).sum()) > rare
    severity: Severity = "warning" if often else "advice"
    sure = 0.9 if severity == "warning" else 0.75
    span = (int(run.steps[places[0]]), int(run.steps[places[-1]]))
    return Finding(ID, severity, sure, _layers(record, step), span, tuple(evidence))


def spike_steps(record: Record) -> list[int]:
    """The steps with which the loss jumped, one for each spike."""
    try:
        run, found, *_ = _found(record)
    except NotApplicable:
        return []
    places = np.flatnonzero(found)
    first = np.diff(places, prepend=-STAYS - 1) > STAYS
    return [int(step) for step in run.steps[places[first]]]


class _Found(NamedTuple):
    run: Course
    found: Mask  # losses of a spike
    single: Mask  # those that stand out alone
    before: Floats  # the level that each came from
    won: Floats  # until then
    part: float


def _found(
    record: Record,
    deviations: float = 8.0,
    part: float = 0.5,  # of what was won before: a smaller jump is noise of a hard batch
) -> _Found:
    run = course(record, count=100)
    if len(run.values) < 100:
        raise NotApplicable(f"{len(run.values)} finite readings of loss/train; 100 are needed")
    before = _level_before(run.values)
    lasting = _level_before_a_rise(run.values, run.start.value, deviations, part)
    single = spikes(run.values, deviations) & stands_out(run.values, deviations)
    found = single | (lasting < np.inf)
    before = np.minimum(before, lasting)
    won = _won(run.start.value, before)
    found &= run.values - before > part * won
    # A run that has already fallen apart has no usual level to jump from.
    return _Found(run, found & (before < run.start.value), single, before, won, part)


def stands_out(values: Floats, deviations: float) -> Mask:
    """Which readings of a loss are spikes by factors too; all where a loss is not positive."""
    return (
        spikes(np.log(values), deviations) if len(values) and values.min() > 0 else np.ones_like(values, bool)
    )


def _won(start: float, level: Floats) -> Floats:
    return np.maximum(start - level, 0.02 * abs(start))


def _level_before_a_rise(
    values: Floats, start: float, deviations: float, part: float, *, window: int = 20, stays: int = STAYS
) -> Floats:
    """For each reading with which the loss goes up and stays up, the level before it; infinite for others."""
    levels = np.full(len(values), np.inf)
    if len(values) < window + stays:
        return levels
    cut = np.lib.stride_tricks.sliding_window_view
    earlier, later = cut(values, window)[:-stays], cut(values, stays)[window:]
    level = np.median(earlier, axis=1)
    noise = 1.4826 * np.median(np.abs(earlier - level[:, None]), axis=1)
    error = 1.25 * noise * np.sqrt(1 / window + 1 / stays)  # of a difference of medians
    rise = np.quantile(later, 0.25, axis=1) - level
    rose = (rise > part * _won(start, level)) & (rise > deviations * error) & (level < start)
    levels[window : window + len(level)][rose] = level[rose]
    return levels


def _level_before(values: Floats, window: int = 50) -> Floats:
    """For each reading the median of the last full block of readings before it; infinite in the first."""
    blocks = len(values) // window
    medians = np.median(values[: blocks * window].reshape(blocks, window), axis=1)
    before = np.minimum(np.arange(len(values)) // window - 1, blocks - 1)
    return np.where(before >= 0, medians[np.maximum(before, 0)], np.inf)
