"""A share of the training labels is wrong.

What it means: the model learns the rule first and the wrong labels later, one by one, from memory. Until
then it is right more often on clean held-out data than on its own training labels, or is sure of another
class than the label in just that share of the examples. The labels, not the model, need work.
How it is decided: a rate with an interval, from the first that can be had of (1) held-out accuracy a and
training accuracy t up to the best evaluation: a labeller who is wrong at rate r leaves
t = a (1 - r) + (1 - a) r / (k - 1), so r = (a - t) / (a - (1 - a) / (k - 1)); (2) the share of training
examples that get another class with more than 0.5 and their label with less than 0.1, where most errors
are of this kind and even the easiest tenth of the examples is not predicted with certainty, as when the
best answer is a coin; (3) labels that have nothing to do with the inputs: held-out accuracy of a guess all
along, while gradients reach every layer and training loss falls only by memory. The low end of the rate
must pass 0.05 (1), 0.1 (2). A warning; an error where labels are no better than chance.
Not applicable: targets are no classes or one example has many; batches are sorted by class; too little
training accuracy was read. (1) and (3) need held-out accuracy.
"""

from __future__ import annotations

import numpy as np

from vario.nouns import Evidence, Finding, NotApplicable, Severity
from vario.record import Record
from vario.rules._course import course
from vario.rules._evidence import Estimate, finite, level
from vario.rules._examples import (
    batch_size,
    class_totals,
    classes,
    graded,
    has_positions,
    rate,
    train_accuracy,
)
from vario.rules._held_out import accuracy_at, passes
from vario.rules._mixing import sorting
from vario.rules._model import rows

ID = "label-noise"
CARD = {
    "papers": ("P024", "P060", "P075"),
    "reads": (
        "accuracy/train", "eval/accuracy", "eval/examples", "eval/loss", "examples/confident_wrong",
        "examples/loss_quantiles", "batch/class_counts", "update/ratio", "gradient/norm", "loss/train",
    ),
    "checked": "closed form",
    "changed": "the papers rank single examples or train around them; the rule estimates one rate"
    " from what a single run shows",
    "summary": "About {share of wrong labels} of the training labels are wrong.",
}  # fmt: skip


def check(
    record: Record,
    *,
    least: float = 0.05,  # dropout and augmentation cost training accuracy a few points as well
    clear: float = 0.1,
    corroborated: float = 0.5,  # of the errors must be confident: dropout and slow learning make hesitant ones
) -> Finding | None:
    """A finding where a share of the labels contradicts what the model has learned."""
    count = classes(record)
    if count < 2:
        raise NotApplicable("the targets are no classes")
    if has_positions(record):
        raise NotApplicable(
            "one example has many targets, whose mistakes cannot be told from what is open in a text"
        )
    mixed = sorting(record)
    if mixed is not None and mixed.low > 0.3:
        raise NotApplicable("the batches are sorted by class, so training accuracy says nothing about labels")
    reasons: list[str] = []
    for estimate in (_against_clean, _confident_errors, _random_labels):
        try:
            found = estimate(record, count)
        except NotApplicable as reason:
            reasons.append(str(reason))
            continue
        if found is None:
            continue
        noise, evidence, span = found
        limit = least if estimate is _against_clean else clear
        if noise.low <= limit or not _is_corroborated(record, noise, span, corroborated):
            continue
        severity: Severity = (
            "error" if estimate is _random_labels else "warning" if noise.low > clear else "advice"
        )
        sure = graded(noise.low, limit, 0.3, least=0.6, most=0.95)
        if estimate is _random_labels:
            sure = 0.8  # an impossible task looks the same
        return Finding(
            ID, severity, sure, (), span, (noise.evidence("share of wrong labels", limit), *evidence)
        )
    if len(reasons) == 3:
        raise NotApplicable("; ".join(dict.fromkeys(reasons)))
    return None


Found = tuple[Estimate, tuple[Evidence, ...], tuple[int, int]]


def _against_clean(record: Record, count: int) -> Found | None:
    """The rate from training and held-out accuracy up to the best evaluation."""
    where, steps, accuracy = passes(record, "eval/accuracy")
    best = int(accuracy.argmax())
    right = accuracy_at(record, where, float(steps[best]))
    start = _start_of(record, float(steps[best]))
    seen = train_accuracy(record, start, float(steps[best]))
    if right.low < 2 / count and right.low < 0.5:
        return None  # a model that has learned nothing cannot contradict a label

    def solve(a: float, t: float) -> float:
        return (a - t) / max(a - (1 - a) / (count - 1), 1e-9)

    noise = Estimate(*(min(max(r, 0.0), 1.0) for r in (
        solve(right.value, seen.value), solve(right.low, seen.high), solve(right.high, seen.low)
    )))  # fmt: skip
    evidence = (
        seen.evidence("training accuracy", right.value),
        right.evidence("held-out accuracy", seen.value, where),
    )
    return noise, evidence, (int(start) + 1, int(steps[best]))


def _confident_errors(
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


def _random_labels(
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
    examples = record.last("eval/examples", where)
    pooled = rate(float(accuracy.mean()), examples if examples >= 1 else 1)
    best = rate(float(accuracy.max()), examples if examples >= 1 else 1)
    if pooled.low > guess or best.low > 1.3 * guess or not np.isfinite(run.chance):
        return None
    _, ratio = finite(*record.need("update/ratio", 5))
    usual = level(ratio)
    if not moved < usual.value < wild or run.state in ("non-finite", "worse") or not _reaches_all(record):
        return None
    # Memory alone leads below the loss of a guess when nothing of it carries over to held-out data.
    fell = run.end.high < run.chance and run.end.value < 0.995 * run.start.value
    trained = finite(*record.series("accuracy/train"))[1]
    above = (
        level(trained[-max(len(trained) // 5, 5) :])
        if len(trained) >= 5
        else Estimate(np.nan, np.nan, np.nan)
    )
    if not fell and not above.low > guess:
        return None
    limit = 1 - 1 / count
    # Where a share 1 - r of the labels were right, held-out accuracy could reach about that much.
    low = max(0.0, 1 - max(best.high - guess, 0.0) / (1 - guess) - 1 / count)
    noise = Estimate(limit, min(low, limit), 1.0)
    evidence = (
        best.evidence("best held-out accuracy", guess, where),
        run.end.evidence("training loss at the end", run.chance),
        usual.evidence("update ratio", moved),
    )
    return noise, evidence, (int(run.steps[0]), int(run.steps[-1]))


def _generalizes_until(record: Record) -> float:
    """The step of the lowest held-out loss, or the end of the run where nothing was evaluated."""
    try:
        _, steps, losses = passes(record, "eval/loss")
    except NotApplicable:
        return np.inf
    return float(steps[int(losses.argmin())])


def _reaches_all(record: Record, *, dead: float = 1e-6) -> bool:
    """Whether every weight with a gradient gets one that is not negligible beside the largest."""
    sizes = []
    for where in record.wheres("gradient/norm"):
        values = finite(*record.series("gradient/norm", where))[1]
        if where and len(values):
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


def _is_corroborated(record: Record, noise: Estimate, span: tuple[int, int], part: float) -> bool:
    """Whether errors were confident, as a wrong label makes them.

    From a rate of 0.45 on no class need have more than half, and errors are hesitant; then strong dropout,
    which lowers training accuracy in the same way, must be absent.
    """
    if noise.value > 0.45:
        return not any(
            float(m.get("p", 0)) > 0.3 for m in rows(record, "modules") if "Dropout" in str(m.get("class"))
        )
    steps, wrong = finite(*record.series("examples/confident_wrong"))
    at, right = finite(*record.series("accuracy/train"))
    inside = wrong[(steps >= span[0]) & (steps <= span[1])]
    errors = 1 - right[(at >= span[0]) & (at <= span[1])]
    return not len(inside) or not len(errors) or float(inside.mean()) >= part * float(errors.mean())
