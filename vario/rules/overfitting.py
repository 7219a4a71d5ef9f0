"""Held-out loss rises while training loss goes on falling.

What it means: from the best evaluation on, the model learns what is true of the training examples only.
The weights of that evaluation are better than the last ones. More data, augmentation, weight decay or
dropout move the point; stopping there is free.
How it is decided: at least 4 evaluations on held-out data; the level of the last three is above the lowest
by 5 % and by three times the usual change from one evaluation to the next, and the training loss is lower
now than it was at the lowest. A warning from 15 % on where held-out accuracy did not gain meanwhile and more
than 5 % of what had been won (the loss at the start of training less the lowest) was lost again: a loss near
zero doubles by a handful of examples. Where the training loss is not the plain cost of its classes (they are
weighed, smoothed, or something is added), held-out recall, averaged over classes, must have been lost as
well. Advice otherwise, and where the held-out loss has only ceased to fall but won less than 70 % of what
the training loss has won. Where no loss of an evaluation is known, what the script prints as that of held-out
data ("val loss", "test rmse") is taken at its word: then the first one printed stands for the start, and a
printed score for the accuracy.
Not applicable: fewer than 4 evaluations of the loss on held-out data, or lines that tell of one.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from vario.nouns import Evidence, Finding, NotApplicable, Severity
from vario.record import Record
from vario.rules._course import course
from vario.rules._evidence import Estimate, Floats, Steps, exactly, finite, level, reach
from vario.rules._examples import graded, plain_loss, rate
from vario.rules._held_out import accuracy_at, passes
from vario.rules._printed import printed_gain, printed_losses

ID = "overfitting"
CARD = {
    "papers": ("P062", "P080"),
    "reads": (
        "eval/loss",
        "eval/accuracy",
        "eval/class_correct",
        "eval/class_counts",
        "eval/examples",
        "loss/train",
        "printed/loss",
        "printed/figure",
        "printed/score",
    ),
    "checked": "closed form",
    "changed": "the papers say when overfitting is benign or comes from repeats; the rule reads "
    "the curve alone",
    "harm": True,
    "summary": "Held-out loss is {held-out loss over its best} times its lowest, reached at step "
    "{best step}; on held-out data the loss fell {held-out progress over that of training} as far as in "
    "training and then stopped; the training loss has gone on falling.",
}


def check(
    record: Record,
    *,
    rise: float = 0.05,  # evaluations on a thousand examples wander by two or three per cent
    clear: float = 0.15,  # here the rise shows in any figure a user looks at
    noises: float = 3.0,  # usual changes between evaluations
    lost: float = 0.05,  # of what had been won, the least that counts as clear elsewhere too
    count: int = 4,  # one best and three after it
) -> Finding | None:
    """A finding where the last evaluations are worse than the best, and training is not."""
    curve = _curve(record, count)
    risen = _risen(record, curve, rise, clear, noises, lost)
    return risen or (None if curve.printed else _left_behind(record))


class _Curve(NamedTuple):
    """The held-out loss, evaluation by evaluation, and what it is when nothing is learned."""

    where: str
    steps: Steps
    losses: Floats
    start: Floats  # empty where it is not known
    printed: bool


def _curve(record: Record, count: int) -> _Curve:
    """As it was seen, else as the script prints it: in a unit of its own, so its start is the first."""
    try:
        seen = passes(record, "eval/loss", count)
    except NotApplicable as reason:
        try:
            where, steps, losses = printed_losses(record, count)
        except NotApplicable as other:
            raise NotApplicable(f"{reason}; {other}") from None
        return _Curve(f'printed "{where}"', steps, losses, losses[:1], printed=True)
    return _Curve(*seen, finite(*record.series("loss/train"))[1][:3], printed=False)


def _left_behind(
    record: Record,
    *,
    part: float = 0.7,  # of what training won; 0.9 and more is usual, on small data 0.8
    count: int = 6,  # three before the middle and three after it
) -> Finding | None:
    """Held-out loss that fell a part of the way and stopped, while training went on to the end of its own."""
    run, (where, steps, losses) = course(record), passes(record, "eval/loss")
    if run.state != "learning" or not plain_loss(record) or len(losses) < count or run.around_zero:
        return None
    half = losses[len(losses) // 2 :]
    earlier, later = level(half[: len(half) // 2]), level(half[len(half) // 2 :])
    won = run.start.low - run.end.high
    held = Estimate(
        *((run.start.value - loss) / max(won, 1e-30) for loss in (later.value, later.high, later.low))
    )
    falls = later.value < (1 - 0.02) * earlier.value
    if won <= 0 or falls or held.high >= part or not held.low > 0:
        return None
    evidence = (
        held.evidence("held-out progress over that of training", part, where),
        later.evidence("held-out loss", run.end.value, where),
        run.end.evidence("training loss at the end", later.value),
    )
    sure = graded(part - held.high, 0.0, part, most=0.8)
    return Finding(ID, "advice", sure, (), (int(steps[len(steps) // 2]), int(steps[-1])), evidence)


def _risen(
    record: Record, curve: _Curve, rise: float, clear: float, noises: float, lost: float
) -> Finding | None:
    """Held-out loss above its lowest, by more than it wanders."""
    where, steps, losses, start, printed = curve
    best = int(losses.argmin())
    if len(losses) - 1 - best < 3 or not losses[best] > 0:
        return None
    last = losses[-3:]
    # Differences of neighbours hold the noise twice and little of the trend; half-normal to sigma: 1.4826.
    changes = np.abs(np.diff(losses) - np.median(np.diff(losses)))
    noise = 1.4826 * float(np.median(changes)) / np.sqrt(2)
    half = reach() * noise / np.sqrt(len(last))
    now = Estimate(*(float(np.median(last) + shift) / float(losses[best]) for shift in (0.0, -half, half)))
    if now.low < 1 + rise or float(np.median(last) - losses[best]) < noises * noise:
        return None
    if not _training_fell(record, steps, best):
        return None
    gained = (
        printed_gain(record, int(steps[best]))
        if printed
        else _accuracy_gain(record, where, int(steps[best]), int(steps[-1]))
    )
    evidence: list[Evidence] = [
        now.evidence("held-out loss over its best", 1 + rise, where),
        Evidence(
            "best step",
            float(steps[best]),
            float(steps[max(best - 1, 0)]),
            float(steps[best + 1]),
            np.nan,
            where,
        ),
    ]
    if gained is not None:
        evidence.append(gained)
    better = gained is not None and gained.low > 0
    recall = None if printed else _recall_gain(record, where, int(steps[best]), int(steps[-1]))
    if recall is not None and not plain_loss(record):
        evidence.append(recall)
        better = better or recall.high >= 0
    part = _lost_again(start, float(losses[best]), float(np.median(last)))
    evidence.append(exactly("share of the progress that was lost again", part, lost, where))
    severity: Severity = "warning" if now.low >= 1 + clear and part > lost and not better else "advice"
    sure = graded(now.low, 1 + rise, 1.5)
    return Finding(ID, severity, sure, (), (int(steps[best]), int(steps[-1])), tuple(evidence))


def _lost_again(start: Floats, best: float, now: float) -> float:
    """How much of what was won on held-out data is gone; all of it where the start is not known."""
    won = float(np.median(start)) - best if len(start) else 0.0
    return min((now - best) / won, 1.0) if won > 0 else 1.0


def _training_fell(record: Record, steps: Steps, best: int) -> bool:
    """Whether training loss is lower at the end than around the best evaluation."""
    at, loss = finite(*record.series("loss/train"))
    width = max(int(steps[best] - steps[max(best - 1, 0)]), 1)
    # One stretch between evaluations, and no fewer than five readings where few steps were read.
    before = loss[at <= steps[best]][-max(int(((at > steps[best] - width) & (at <= steps[best])).sum()), 5) :]
    after = loss[-max(int((at > steps[-1] - width).sum()), 5) :]
    if not len(before) or not len(after):
        return False
    return level(after).value < level(before).value


def _accuracy_gain(record: Record, where: str, best: int, last: int) -> Evidence | None:
    """Held-out accuracy now less that at the lowest loss; None where accuracy was not evaluated."""
    values: Floats = finite(*record.series("eval/accuracy", where))[1]
    if not len(values):
        return None
    then, now = accuracy_at(record, where, best), accuracy_at(record, where, last)
    half = float(np.hypot(now.high - now.low, then.high - then.low)) / 2
    gain = now.value - then.value
    return Evidence("gain of held-out accuracy since", gain, gain - half, gain + half, 0.0, where)


def _recall_gain(record: Record, where: str, best: int, last: int) -> Evidence | None:
    """Recall, averaged over classes, now less that at the lowest loss; None where not counted."""
    (at, right), (_, counts) = (record.series(f"eval/class_{name}", where) for name in ("correct", "counts"))
    then, now = np.flatnonzero(at == best), np.flatnonzero(at == last)
    if right.ndim != 2 or right.shape != counts.shape or not len(then) or not len(now):
        return None
    means, errors = [], []
    for row in (then[-1], now[-1]):
        seen = [(r / n, n) for r, n in zip(right[row], counts[row], strict=True) if n > 0]
        intervals = [rate(share, n) for share, n in seen]
        means.append(float(np.mean([share for share, _ in seen])))
        errors.append(float(np.linalg.norm([(i.high - i.low) / 2 for i in intervals])) / max(len(seen), 1))
    gain, half = means[1] - means[0], float(np.hypot(errors[0], errors[1]))
    return Evidence("gain of the mean recall since", gain, gain - half, gain + half, 0.0, where)
