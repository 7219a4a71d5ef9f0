"""What a guess by class shares would score on held-out data, and how the model does beside it."""

from __future__ import annotations

import numpy as np

from vario.record import Record
from vario.rules._evidence import Estimate, Floats, finite
from vario.rules._examples import class_totals, rate
from vario.rules._held_out import examples_of

__all__ = [
    "beats_a_guess",
    "guess_on_held_out",
    "knows_nothing",
    "no_better_than_a_guess",
    "right_by_luck",
    "right_when_new",
]


def no_better_than_a_guess(
    record: Record, where: str, accuracy: Floats, *, alike: bool = False
) -> Estimate | None:
    """The best held-out accuracy, where neither it nor a loss beats answers by the class shares.

    ``alike``: a model that knows nothing may answer all of a class alike, and is then right of whole classes
    by luck: two standard deviations of as many answers as there are classes.
    """
    answer, loss = guess_on_held_out(record, where)
    examples = examples_of(record, where)
    pooled, best = rate(float(accuracy.mean()), examples), rate(float(accuracy.max()), examples)
    luck = 2 * float(np.sqrt(answer * (1 - answer) / class_totals(record)[1].shape[1])) if alike else 0.0
    if pooled.low > answer + luck or best.low > max(1.3 * answer, answer + luck):
        return None
    return None if beats_a_guess(record, where, loss) else best


def guess_on_held_out(record: Record, where: str) -> tuple[float, float]:
    """Accuracy and loss, on held-out data, of answers by the class shares of training.

    The classes may be shared otherwise there: an accuracy is that of the best answer among the classes that
    training has about as often as its largest.
    """
    totals, unseen = _of_training_and_held_out(record, where)
    shares = (totals + 1) / (totals + 1).sum()
    likely = totals >= totals.max() / 2
    there = unseen / max(unseen.sum(), 1.0)
    return float(there[likely].max()), -float(there @ np.log(shares))


def _of_training_and_held_out(record: Record, where: str) -> tuple[Floats, Floats]:
    """Labels of each class in training and on held-out data: as in training, where not counted."""
    totals = class_totals(record)[1].sum(axis=0)
    counts = record.series("eval/class_counts", where)[1]
    known = len(counts) and counts.ndim == 2 and counts.shape[1] == len(totals)
    return totals, counts[-1] if known else totals


def right_by_luck(record: Record, where: str) -> float:
    """How often labels drawn by the class shares of training are right on held-out data."""
    totals, unseen = _of_training_and_held_out(record, where)
    return float(totals @ unseen / max(totals.sum() * unseen.sum(), 1.0))


def beats_a_guess(record: Record, where: str, chance: float, *, clear: float = 0.01) -> bool:
    """Whether the held-out loss fell below that of a guess, which answers to random labels cannot do."""
    losses = finite(*record.series("eval/loss", where))[1]
    if not len(losses):
        return False
    usual = np.median(np.lib.stride_tricks.sliding_window_view(losses, min(3, len(losses))), axis=1)
    return bool(usual.min() < (1 - clear) * chance)


def knows_nothing(record: Record, right: Estimate, count: int, *, clear: float = 0.05) -> bool:
    """Whether held-out answers are hardly better than a guess: such a model cannot contradict a label."""
    totals = class_totals(record)[1].sum(axis=0)
    guess = float(totals.max() / totals.sum())
    return right.low < min(2 / count, 0.5) or right.low < guess + clear * (1 - guess)


def right_when_new(record: Record, *, copies: float = 0.05) -> Estimate:
    """Training accuracy in the first epoch, when no row had come before; between 0 and 1 where not known."""
    epochs = record.events("epoch")
    loaders = {event.where for event in epochs}
    twice = finite(*record.series("data/duplicate_share"))[1]
    if len(loaders) != 1 or len(epochs) < 2 or twice.max(initial=0) > copies:
        return rate(np.nan, 0)
    steps, right = finite(*record.series("accuracy/train"))
    new = right[(steps >= epochs[0].step) & (steps < epochs[1].step)]
    labels = class_totals(record)[1]
    each = float(np.median(labels.sum(axis=1))) if len(labels) else 1.0
    return rate(float(new.mean()) if len(new) else np.nan, len(new) * each)
