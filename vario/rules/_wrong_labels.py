"""Rates of wrong labels, each estimated from another thing that a single run shows.

An estimator takes the record and the number of classes; it gives the rate, the evidence beside it and the
steps it was taken from, or None where its picture does not fit, and raises NotApplicable where it cannot see.
"""

from __future__ import annotations

import numpy as np

from vario.nouns import Evidence, NotApplicable
from vario.record import Record
from vario.rules._course import course
from vario.rules._evidence import Estimate, Floats, exactly, finite, level
from vario.rules._examples import batch_size, class_totals, plain_loss, rate
from vario.rules._guessing import (
    beats_a_guess,
    guess_on_held_out,
    knows_nothing,
    no_better_than_a_guess,
    right_by_luck,
    right_when_new,
)
from vario.rules._held_out import accuracy_at, examples_of, passes
from vario.rules._model import dropouts, is_too_narrow, rows

__all__ = [
    "Found",
    "against_accuracy",
    "against_loss",
    "confident_errors",
    "is_underconfident",
    "labels_at_random",
    "labels_unrelated",
]

Found = tuple[Estimate, tuple[Evidence, ...], tuple[int, int]]


def against_accuracy(record: Record, count: int) -> Found | None:
    """The rate from training and held-out accuracy at the best evaluation."""
    where, steps, accuracy = passes(record, "eval/accuracy")
    best = _first_as_good(record, where, accuracy)
    right = accuracy_at(record, where, float(steps[best]))
    # A model that swings from one evaluation to the next has no accuracy to hold labels against. The best of
    # many is a lucky one: where its neighbours say less by no more than chance, theirs is the accuracy.
    usual = float(np.median(accuracy[best - 1 : best + 2])) if 0 < best < len(accuracy) - 1 else right.value
    if usual < right.low:
        lucky, right = right, rate(usual, examples_of(record, where))
        if right.high < lucky.low:
            return None
    until = _last_as_good(record, where, accuracy)
    seen, span = _training_accuracy_at(record, float(steps[best]), float(steps[until]))
    if knows_nothing(record, right, count):
        return None

    part = _sureness(record, where, int(steps[best]), span)

    def solve(a: float, t: float) -> float:
        a *= part  # the less sure it is of the inputs of training, the less often it would be right there
        return (a - t) / max(a - (1 - a) / (count - 1), 1e-9)

    noise = Estimate(*(min(max(r, 0.0), 1.0) for r in (
        solve(right.value, seen.value), solve(right.low, seen.high), solve(right.high, seen.low)
    )))  # fmt: skip
    evidence = (
        seen.evidence("training accuracy", right.value),
        right.evidence("held-out accuracy", seen.value, where),
    )
    return noise, evidence, span


def against_loss(record: Record, count: int) -> Found | None:
    """The rate from training and held-out loss at the best evaluation.

    A model that says p for the right class loses -ln p on it, and at least -ln((1 - p) / (k - 1)) on the mean
    wrong one (Jensen), so that training loss = (1 - r) (-ln p) + r (-ln((1 - p) / (k - 1))). Such a model is
    also less sure than right on clean data, by at least half the rate.
    """
    where, steps, accuracy = passes(record, "eval/accuracy")
    at, losses = finite(*record.series("eval/loss", where))
    sure_at, sure = finite(*record.series("eval/confidence", where))
    best = _first_as_good(record, where, accuracy)
    step = int(steps[best])
    if step not in at or step not in sure_at:
        raise NotApplicable("the best evaluation has no loss or no confidence")
    clean, said = float(losses[at == step][0]), float(sure[sure_at == step][0])
    right = accuracy_at(record, where, step)
    if knows_nothing(record, right, count):
        return None
    if not plain_loss(record):
        raise NotApplicable("the training loss is not the plain cross entropy of the labels")
    gap_before = int(steps[best] - (steps[best - 1] if best else -1))
    _refuse_harder_inputs(record, where, step, gap_before)
    train_at, train = finite(*record.series("loss/train"))
    wrong = -float(np.log(max(1 - said, 1e-6) / (count - 1)))
    # Training before the evaluation was of a worse model, training after it knows more of the labels by
    # heart: the lower of the two cannot be too high by both.
    before = level(train[(train_at > step - gap_before) & (train_at <= step)])
    after = level(train[(train_at > step) & (train_at <= step + gap_before)])
    if not np.isfinite(before.value):
        before = after
    lasting_until = _last_as_good(record, where, accuracy)
    if lasting_until > best and np.isfinite(after.value):  # else training got worse, not better by heart
        least, still = min(before.low, after.low), 0.0
    else:
        least, still = before.low, abs(float(losses[at < step][-1]) - clean) if (at < step).any() else np.inf
    excess = Estimate(before.value - clean, least - still - clean, before.high - clean)
    lasting = _excess_while_as_good(record, where, step, int(steps[lasting_until]))
    if lasting is not None and not excess.low >= lasting.low:
        excess = lasting
    # The loss on wrong labels is larger than its bound by an unknown part; half as much again is ample.
    noise = Estimate(
        excess.value / (wrong - clean), excess.low / (1.5 * wrong - clean), excess.high / (wrong - clean)
    )
    if np.isnan(noise.low):
        raise NotApplicable(f"no training loss was read around the evaluation at step {step}")
    if not noise.low > 0 or not is_underconfident(record, noise.low):
        return None
    noise = Estimate(*(min(max(r, 0.0), 1.0) for r in (noise.value, noise.low, noise.high)))
    evidence = (
        exactly("held-out loss there", clean, clean + excess.value, where),
        excess.evidence("excess of the training loss", 0.0),
        right.evidence("held-out accuracy", said, where),
        exactly("held-out confidence", said, right.value, where),
    )
    return noise, evidence, (step - gap_before + 1, step)


def confident_errors(
    record: Record,
    count: int,
    *,
    certain: float = 0.9,  # the easiest tenth of real examples is predicted with more
    pure: float = 0.6,  # of the errors are confident: errors on hard examples are hesitant
    learned: float = 0.3,
) -> Found | None:
    """The rate as the share of confident errors, while the model answers like a fair but noisy labeller."""
    steps, wrong = finite(*record.need("examples/confident_wrong", 10))
    _, quantiles = record.need("examples/loss_quantiles", 10)
    at, right = finite(*record.need("accuracy/train", 10))
    end = _generalizes_until(record)
    inside = np.flatnonzero((steps <= end) & (steps > _start_of(record, min(end, float(steps[-1])))))
    if len(inside) < 3 or quantiles.ndim != 2:
        raise NotApplicable(
            f"{len(inside)} readings of losses per example shortly before the best evaluation; 3 are needed"
        )
    first, last = int(steps[inside[0]]), int(steps[inside[-1]])
    lows = record.series("examples/loss_quantiles")
    easiest = lows[1][(lows[0] >= first) & (lows[0] <= last), 1]
    accuracy = right[(at >= first) & (at <= last)]
    if not len(accuracy) or not np.isfinite(easiest).any():
        return None
    surest = float(np.exp(-np.nanmedian(easiest)))
    share = float(wrong[inside].mean())
    errors = 1 - float(accuracy.mean())
    if surest > certain or share < pure * errors or errors > 1 - max(learned, 2 / count):
        return None
    size = batch_size(record)
    noise = rate(share, len(inside) * (size if size >= 1 else 1))
    # Errors that are not confident may be wrong labels too: they bound the rate from above.
    noise = Estimate(noise.value, noise.low, max(noise.high, errors))
    return noise, (Evidence("surest tenth", surest, surest, surest, certain),), (first, last)


def labels_at_random(
    record: Record,
    count: int,
    *,
    moved: float = 1e-4,  # update over weight per step: below, the run has not tried
    wild: float = 0.1,  # above, it has overshot
) -> Found | None:
    """A rate near 1 - 1/k where nothing carries over to held-out data although training works."""
    where, steps, accuracy = passes(record, "eval/accuracy")
    run = course(record)
    totals = class_totals(record)[1].sum(axis=0)
    guess = float(totals.max() / totals.sum())
    if guess > 0.5:
        raise NotApplicable(f"one class holds {guess:.0%} of the labels, so a guess is no yardstick")
    best = no_better_than_a_guess(record, where, accuracy)
    if best is None or not np.isfinite(run.chance):
        return None
    # Half: rows that are alike are answered alike, so luck is wider than that of as many single answers.
    if rate(float(accuracy.mean()), examples_of(record, where)).high < 0.5 * right_by_luck(record, where):
        raise NotApplicable(
            "held-out answers are right less often than guesses: what is learned bears on them"
        )
    _, ratio = finite(*record.need("update/ratio", 5))
    usual = level(ratio)
    if not moved < usual.value < wild or run.state in ("non-finite", "worse") or not _reaches_all(record):
        return None
    if right_when_new(record).low > guess:
        raise NotApplicable("rows were answered right in their first epoch, before any of them came again")
    # Memory alone leads below the loss of a guess when nothing of it carries over to held-out data.
    fell = run.end.high < run.chance and run.end.value < 0.995 * run.start.value
    trained = finite(*record.series("accuracy/train"))[1]
    enough = len(trained) >= 5
    above = level(trained[-max(len(trained) // 5, 5) :] if enough else trained[:0])
    if not fell and not above.low > guess:
        return None
    # Of the little that a run has won at first, memory takes nothing over to held-out data either.
    answer, unseen = guess_on_held_out(record, where)
    won = run.chance - run.end.value
    if won > 0 and beats_a_guess(record, where, unseen, clear=0.5 * won / unseen):
        return None
    limit = 1 - 1 / count
    # Where a share 1 - r of the labels were right, held-out accuracy could reach about that much.
    low = max(0.0, 1 - max(best.high - answer, 0.0) / (1 - answer) - 1 / count)
    noise = Estimate(limit, min(low, limit), 1.0)
    evidence = (
        best.evidence("best held-out accuracy", answer, where),
        run.end.evidence("training loss at the end", run.chance),
        usual.evidence("update ratio", moved),
    )
    return noise, evidence, (int(run.steps[0]), int(run.steps[-1]))


def labels_unrelated(
    record: Record,
    count: int,
    *,
    far: float = 0.5,  # path of the weights over their norm: ten times what a rate that is too low leads
    calm: float = 0.05,  # update over weight: half of what counts as too large
) -> Found | None:
    """A rate near 1 - 1/k where nothing is learned, not even by heart, though calm steps led far."""
    run = course(record)
    if is_too_narrow(record):
        raise NotApplicable("the model is too narrow to tell its classes apart, whatever the labels")
    at, ratio = finite(*record.need("update/ratio", 5))
    gone = ratio * np.diff(at, append=record.step_count)
    path = float(gone.sum())
    # The first steps of adaptive optimizers are long; but together they must not have replaced the weights.
    start = at < min(record.step_count / 10, at.max(initial=0))
    kept = ratio[~start].max(initial=0) <= calm and gone[start & (ratio > calm)].sum() <= 1
    idle = run.state == "stuck" and run.end.high > 0.97 * run.chance and path >= far and kept
    if not idle or record.wheres("eval/accuracy"):
        where, _, accuracy = passes(record, "eval/accuracy")
        if not idle or no_better_than_a_guess(record, where, accuracy, alike=True) is None:
            return None
    if not _reaches_all(record):
        return None
    evidence = (
        run.end.evidence("training loss at the end", run.chance),
        exactly("path of the weights", path, far),
    )
    return Estimate(1 - 1 / count, 0.5, 1.0), evidence, (int(run.steps[0]), int(run.steps[-1]))


def is_underconfident(record: Record, least: float, *, part: float = 0.5, at_the_end: bool = False) -> bool:
    """Whether the model is less sure than right on clean data by ``part`` of what wrong labels make.

    One that answers like a labeller who errs at rate r says (1 - r) p where without errors it would say p,
    which is as often right: it lacks r times its accuracy. Another text in training lowers the accuracy
    there but not this confidence. ``at_the_end``: the last of the evaluations that
    are as good as the best is asked, not the first.
    """
    where, steps, accuracy = passes(record, "eval/accuracy")
    best = (_last_as_good if at_the_end else _first_as_good)(record, where, accuracy)
    at, sure = finite(*record.series("eval/confidence", where))
    if int(steps[best]) not in at:
        return False
    right = float(accuracy[best])
    return right - float(sure[at == steps[best]][0]) >= part * least * right


def _first_as_good(record: Record, where: str, accuracy: Floats) -> int:
    """The first evaluation that the best one does not clearly beat: later, labels are learned by heart."""
    best, count = float(accuracy.max()), examples_of(record, where)
    return int(np.argmax([rate(a, count).high >= best for a in accuracy]))


def _last_as_good(record: Record, where: str, accuracy: Floats) -> int:
    """The last evaluation that the best one does not clearly beat."""
    return len(accuracy) - 1 - _first_as_good(record, where, accuracy[::-1])


def _excess_while_as_good(
    record: Record, where: str, first: int, last: int, *, readings: int = 10
) -> Estimate | None:
    """By how much training losses from ``first`` to ``last`` exceed the held-out loss before each of them.

    Training goes on meanwhile, from that evaluation and by heart: both can only make it too small.
    """
    at, train = finite(*record.series("loss/train"))
    when, held_out = finite(*record.series("eval/loss", where))
    inside = (at > max(first, when[0])) & (at <= last)
    if inside.sum() < readings:
        return None
    return level(train[inside] - held_out[np.searchsorted(when, at[inside]) - 1])


def _refuse_harder_inputs(record: Record, where: str, step: int, around: int) -> None:
    if any(p > 0.3 for p in dropouts(record).values()):
        raise NotApplicable("strong dropout raises the training loss as wrong labels do")
    if _sureness(record, where, step, (step - around + 1, step + around)) < 0.9:
        raise NotApplicable("inputs of training are harder than those of the evaluation: it doubts them more")


def _sureness(record: Record, where: str, step: int, span: tuple[int, int]) -> float:
    """How sure the model is of its answers in training, over how sure it is in the evaluation; at most 1.

    A wrong label leaves that as it is; harder inputs (augmentation, dropout) do not, and cost right answers.
    """
    at, sure = finite(*record.series("examples/confidence"))
    said_at, said = finite(*record.series("eval/confidence", where))
    inside = (at >= span[0]) & (at <= span[1])
    used = [part for part in (inside & (at <= step), inside & (at > step)) if part.any()]
    if not used or step not in said_at:
        return 1.0
    now = np.interp(step, [at[part].mean() for part in used], [sure[part].mean() for part in used])
    return min(float(now) / max(float(said[said_at == step][0]), 1e-9), 1.0)


def _training_accuracy_at(
    record: Record,
    step: float,
    until: float,
    *,
    readings: int = 8,
    examples: int = 100,
    enough: int = 1000,  # examples: an accuracy of a half is then known to 0.03
    near: float = 0.2,  # of the way so far: there a model is nearly that of the evaluation
) -> tuple[Estimate, tuple[int, int]]:
    """Training accuracy of the model at ``step``, and the steps that it was taken from.

    Readings before are of a worse model and readings after, up to ``until``, of one that knows more labels by
    heart, so the line between the two is taken. Where none follow, those before must lie in the last third
    of the way. Before the first evaluation a model is on its way up from a guess, which is no straight line:
    there those after it are taken, where they are enough. Of many near by those are taken that hold
    ``enough`` examples.
    """
    at, values = finite(*record.series("accuracy/train"))
    counted = class_totals(record)[1]
    each = float(np.median(counted.sum(axis=1))) if len(counted) else batch_size(record)
    most = int(np.ceil(enough / each)) if each > 0 else readings
    close = np.abs(at - step) <= near * step
    later = np.flatnonzero((at > step) & (at <= max(1.5 * step, until)))
    later = later[: max(readings, min(most, int(close[later].sum())))]
    since = step / 2 if len(later) else 2 * step / 3
    before = np.flatnonzero((at <= step) & (at > since))
    before = before[-max(readings, min(most, int(close[before].sum()))) :]
    if len(later) and _got_worse(record, step, float(at[later[-1]])):
        later = later[:0]  # of another model than the one that was evaluated
    first = step <= passes(record, "eval/accuracy")[1][0]
    if first and len(before) and len(later) * (each if each > 0 else 1.0) >= examples:
        before = later[:0]
    used = [part for part in (before, later) if len(part)]
    count = sum(map(len, used)) * (each if each > 0 else 1.0)
    if not (len(before) or first) or count < examples:
        raise NotApplicable(
            f"{count:.0f} training examples were measured around step {step:.0f}; {examples} are needed"
        )
    value = float(np.interp(step, [at[part].mean() for part in used], [values[part].mean() for part in used]))
    return rate(value, count), (int(at[used[0][0]]), int(at[used[-1][-1]]))


def _got_worse(record: Record, step: float, until: float) -> bool:
    """Whether the training loss of the steps after this one, up to the last, is clearly above that before."""
    at, losses = finite(*record.series("loss/train"))
    after = level(losses[(at > step) & (at <= until)])
    before = level(losses[(at <= step) & (at > 2 * step - until)])
    return bool(after.low > before.high)


def _generalizes_until(record: Record) -> float:
    """The step of the lowest held-out loss, or the end of the run where nothing was evaluated."""
    try:
        _, steps, losses = passes(record, "eval/loss")
    except NotApplicable:
        return np.inf
    return float(steps[int(losses.argmin())])


def _reaches_all(record: Record, *, dead: float = 1e-6) -> bool:
    """Whether every matrix with a gradient gets one that is not negligible beside the largest."""
    # Of matrices only: a bias before a BatchNorm has no gradient by construction.
    matrices = {str(p["name"]) for p in rows(record, "parameters") if len(p.get("shape", ())) >= 2}
    sizes = []
    for where in record.wheres("gradient/norm"):
        values = finite(*record.series("gradient/norm", where))[1]
        if where in matrices and len(values):
            sizes.append(float(np.median(values)))
    return not sizes or min(sizes) > dead * max(sizes)


def _start_of(record: Record, end: float, *, readings: int = 8) -> float:
    """Where the readings begin that tell of the model at step ``end``: the last ones, of the later half only.

    Later in training a model changes slowly, so that its last readings are of nearly the model evaluated.
    """
    steps = finite(*record.series("accuracy/train"))[0]
    before = steps[steps <= end]
    last = float(before[-readings]) - 1 if len(before) >= readings else -1.0
    return max(last, end / 2)
