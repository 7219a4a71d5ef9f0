"""How the training loss went: is this run failing at all, and in which way?

Many rules judge only a run that fails: large updates, dead units or small gradients are no illness
while the loss falls as it should. This is the one place that decides what failing is.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from vario.nouns import NotApplicable
from vario.record import Record
from vario.rules._evidence import Estimate, Floats, Steps, finite, level, reach, reaching, tail, trend
from vario.rules._examples import plain_loss
from vario.rules._parameters import is_climbed, optimizer_name

State = Literal["non-finite", "worse", "stuck", "learning"]

__all__ = ["Course", "State", "began_trained", "chance_loss", "course", "is_failing", "median_over"]


@dataclass(frozen=True, slots=True)
class Course:
    """The training loss of a stream from its first step to its last.

    ``state`` is "non-finite" (the loss ends as NaN or inf), "worse" (it ends clearly above its start),
    "stuck" (it never fell clearly below its start, by its interval and by its trend, or below what a constant
    guess gives, or ends above that) or "learning".
    Where the targets of a regression grew, as those that another net gives (temporal differences) or returns
    that get better do, losses are divided by that growth: the same share of error costs more at the end.
    So is a loss that adds up more terms than at first (the steps of longer episodes) by their growth.
    What an optimizer climbs (``maximize=True``) is taken with the other sign.
    ``fall`` is the share of the starting loss (above the floor of 0, or of the lowest loss where losses
    are negative) that is gone at the end; nan where the loss has no floor to fall to: it lies around zero, as
    of a policy or an opponent, or climbs towards it from below, as the difference between data and what the
    model itself draws. Such a loss is never "worse" while it stays below zero, where no error begins, nor
    before it lies as far above zero as it began below.
    """

    steps: Steps  # of the finite readings
    values: Floats
    start: Estimate
    lowest: float  # lowest running level
    lowest_step: int
    end: Estimate
    noise: float  # usual deviation of one reading from the level around it, at the end
    peak: float  # highest running level in the first fifth
    chance: float  # loss of the best constant guess; nan where unknown
    bad_step: int | None  # first step with a loss that is not a finite number
    state: State

    @property
    def fall(self) -> float:
        if self.around_zero:
            return np.nan
        floor = min(0.0, self.lowest)
        return (self.start.value - self.end.value) / max(self.start.value - floor, 1e-30)

    @property
    def won(self) -> float:
        """Like ``fall``, of the loss of a constant guess where the start cost more: to guess is no gain."""
        if self.around_zero:
            return np.nan
        guess = float(np.fmin(self.start.value, self.chance))
        floor = min(0.0, self.lowest)
        return (guess - self.end.value) / max(guess - floor, 1e-30)

    @property
    def around_zero(self) -> bool:
        below = _share_below(self.values)
        return 0.05 < below < 0.95 or (below >= 0.95 and self.end.low > self.start.value)

    @property
    def failing(self) -> bool:
        return self.state != "learning"


def course(record: Record, *, count: int = 20, clear: float = 0.05) -> Course:
    """The course of ``loss/train``, or NotApplicable where fewer than ``count`` steps were seen.

    A fall counts as clear when it is ``clear`` of the starting loss (5 %: a constant guess, once the
    bias of the last layer has settled, gains about this much) and its interval or that of the trend tells it
    from none; a single reading may well differ by more, as where targets allow little.
    """
    record.need("loss/train", count)
    return record.once(("course", clear, reach()), lambda: _course(record, clear))


def _course(record: Record, clear: float) -> Course:
    steps, values = record.series("loss/train")
    broken = ~np.isfinite(values)
    bad_step = int(steps[broken.argmax()]) if broken.any() else None
    good_steps, good = finite(steps, values)
    good = -good if is_climbed(record) else good
    good = good / _growth_of_targets(record, good_steps) / _growth_of_terms(record, good_steps)
    if not len(good):
        nothing = Estimate(np.nan, np.nan, np.nan)
        return Course(
            good_steps, good, nothing, np.nan, -1, nothing, np.nan, np.nan, np.nan, bad_step, "non-finite"
        )
    seen_steps, seen = _of_enough_examples(record, good_steps, good)
    first = _first_losses(record, seen_steps, seen)
    # The last tenth of the steps, not of the readings, which lie closer together at the start of a run; never
    # more than half, for the beginning of a very short run is not its end as well.
    late = int((seen_steps > 0.9 * seen_steps[-1]).sum())
    start, last = level(first), seen[-min(max(late, 5), 500, max(len(seen) // 2, 1)) :]
    end = level(last)
    noise = float(1.4826 * np.median(np.abs(last - end.value)))
    # The lowest of many single readings is a lucky batch and no level; five make one.
    edges, levels = _levels(seen, 5)
    lowest = int(levels.argmin())
    # With class weights, smoothing or further terms a constant guess costs something else.
    chance = chance_loss(record) if plain_loss(record) else np.nan
    scale = abs(start.value) if start.value else 1.0
    fell = start.value - end.value
    if not np.isfinite(tail(values, at_least=3)).all():
        state: State = "non-finite"
    elif (
        _share_below(good) < 0.95
        and end.low > max(start.high, -start.low)  # from below zero up to it nothing ran away
        and (
            end.value > start.value + max(0.5 * scale, 3 * noise)
            or end.value > 3 * max(start.value, chance, 0) > 0
        )
    ):
        state = "worse"
    elif (
        fell < clear * scale
        or end.low > 0.97 * chance
        or end.value > chance
        or _is_level(seen_steps, seen, first, last)
    ):
        state = "stuck"
    else:
        state = "learning"
    found = Course(
        steps=good_steps, values=good, start=start, lowest=float(levels[lowest]),
        lowest_step=int(seen_steps[edges[lowest]]), end=end, noise=noise,
        peak=_peak(seen), chance=chance, bad_step=bad_step, state=state,
    )  # fmt: skip
    return replace(found, state="learning") if state == "stuck" and found.around_zero else found


def _of_enough_examples(
    record: Record, steps: Steps, values: Floats, *, enough: int = 16
) -> tuple[Steps, Floats]:
    """Readings of ``enough`` examples or more: of smaller batches neighbours are averaged, ten being left.

    The loss of a single example says nothing of a level: the first may lie at a tenth of it or at five times.
    A mean of squares over 16 spreads by a third of itself (sqrt(2 / 16)).
    """
    size, passes, targets = (
        _usual(record, name) for name in ("batch/size", "loss/backwards", "batch/targets")
    )
    examples = np.fmax(size * np.fmax(passes, 1.0), targets)  # nan where neither is known
    if not examples < enough:
        return steps, values
    each = min(int(np.ceil(enough / max(examples, 1.0))), max(len(values) // 10, 1))
    blocks = len(values) // each  # what is over is left out at the end, where less happens
    means: Floats = values[: blocks * each].reshape(blocks, each).mean(axis=1)
    return steps[: blocks * each : each], means


def _usual(record: Record, name: str) -> float:
    values = finite(*record.series(name))[1]
    return float(np.median(values)) if len(values) else np.nan


def _first_losses(record: Record, steps: Steps, values: Floats, *, large: float = 0.1) -> Floats:
    """The losses that the run started from: none after a step a tenth as long as the weights."""
    first = values[: max(min(len(values) // 50, 10), 3)]
    at, ratio = finite(*record.series("update/ratio"))
    if (ratio > large).any():
        first = first[: max(int((steps[: len(first)] <= at[ratio > large][0]).sum()), 1)]
    if optimizer_name(record) == "lbfgs":
        return first[:1]  # each of its steps is many, and the first may do all
    if first.max() > 3 * first[0] > 0:
        return first[:1]  # an explosion in the very first steps is no starting level
    if len(first) > 1 and first[0] > 3 * float(np.median(first[1:])) > 0:
        return first[:1]  # nor is what a fall in them came down to
    return first


def _share_below(values: Floats) -> float:
    return float((values < 0).mean()) if len(values) else 0.0


def began_trained(
    record: Record,
    run: Course,
    *,
    classes: float = 0.2,  # of a guess by class shares; first weights cost as much as it or more
    targets: float = 0.1,  # of the lesser of deviation and variance: by Huber's loss a guess costs 0.3
) -> bool:
    """Whether the loss began far below what a guess costs, as that of a model which is trained on."""
    if np.isfinite(run.chance):
        return bool(0 < run.start.value < classes * run.chance)
    means, stds = (finite(*record.series(f"target/{name}"))[1] for name in ("mean", "std"))
    if not len(means) or len(means) != len(stds):
        return False
    spread = float((stds**2).mean() + means.var())
    return bool(0 < run.start.value < targets * min(spread, spread**0.5))


def _growth_of_targets(record: Record, at: Steps, *, count: int = 20) -> Floats:
    """At each step the magnitude of the targets over that of the first ones; 1 where it did not clearly grow.

    A squared error grows with the square of it and an absolute one in proportion, which is the least.
    """
    same = np.ones(len(at))
    (mean_steps, means), (steps, stds) = (record.series(f"target/{name}") for name in ("mean", "std"))
    if len(steps) < count or not np.array_equal(mean_steps, steps):
        return same
    steps, size = finite(steps, np.hypot(means, stds))
    first, last = size[: max(len(size) // 10, 3)], size[-max(len(size) // 10, 10) :]
    if len(size) < count or not level(last).low > level(first).high > 0:
        return same
    grown: Floats = np.maximum(_smoothed(at, steps, size, float(np.median(first))), 1.0)
    return grown


def _smoothed(at: Steps, steps: Steps, values: Floats, first: float) -> Floats:
    """Medians of ten neighbours, read at other steps, over ``first``: single batches differ by chance."""
    blocks = max(min(len(values) // 10, 40), 1)
    pieces = [
        (np.median(s), np.median(v))
        for s, v in zip(np.array_split(steps, blocks), np.array_split(values, blocks), strict=True)
    ]
    at_steps, levels = np.array([(0.0, first), *pieces]).T
    smooth: Floats = np.interp(at, at_steps, levels) / first
    return smooth


def _growth_of_terms(record: Record, at: Steps) -> Floats:
    """At each step how many terms the loss added up, over that of the first tenth; 1 where not known."""
    steps, terms = finite(*record.series("loss/terms"))
    if not len(at) or not len(terms) or not terms.min() > 0:
        return np.ones(len(at))
    first = float(np.median(terms[: max(len(terms) // 10, 3)]))
    known = np.isin(steps, at)
    if known.sum() < len(at):  # of steps that were not measured only the losses are known
        return _smoothed(at, steps, terms, first)
    grown: Floats = terms[known] / first
    return grown


def _peak(values: Floats) -> float:
    """The highest level in the first fifth, where a level is the median of a tenth of what came before it.

    An explosion of the first steps may last for few of them; a later one that matters lasts longer. No level
    is of more than a fiftieth of all.
    """
    early = values[: max(len(values) // 5, 1)]
    edges = [0]
    while edges[-1] < len(early):
        edges.append(edges[-1] + max(min(edges[-1] // 10, len(values) // 50), 1))
    return max(float(np.median(early[a:b])) for a, b in zip(edges[:-1], edges[1:], strict=True))


def _levels(values: Floats, least: int) -> tuple[Steps, Floats]:
    """Edges and medians of at most 50 blocks of ``least`` or more neighbours."""
    edges = np.linspace(0, len(values), max(min(50, len(values) // least), 1) + 1).astype(np.int64)
    return edges, np.array([np.median(values[a:b]) for a, b in zip(edges[:-1], edges[1:], strict=True)])


def _is_level(steps: Steps, values: Floats, first: Floats, last: Floats) -> bool:
    """Whether neither the two ends nor the trend between them tells the loss from one that never fell.

    This is said where no fall can be seen, so of all intervals the usual, narrow one is the careful one.
    """
    with reaching(1.96):
        return level(last).high >= level(first).low and trend(steps, values).high >= 0


def is_failing(record: Record, *, unknown: bool = False) -> bool:
    """Whether the training fails; ``unknown`` where the run is too short to tell."""
    try:
        return course(record).failing
    except NotApplicable:
        return unknown


def chance_loss(record: Record) -> float:
    """Cross entropy of guessing the classes by their share in the data; nan where there are none."""
    steps, counts = record.series("batch/class_counts")
    if not len(steps) or counts.ndim != 2:
        return np.nan
    total = counts.sum(axis=0)
    p = total[total > 0] / total.sum()
    return float(-(p * np.log(p)).sum()) if len(p) > 1 else np.nan


def median_over(record: Record, name: str, *, count: int = 1) -> dict[str, float]:
    """The median of a series in each place that has one (``where`` other than the whole model)."""
    found = {}
    for where in record.wheres(name):
        values = finite(*record.series(name, where))[1]
        if where and len(values) >= count:
            found[where] = float(np.median(values))
    return found
