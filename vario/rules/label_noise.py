"""A share of the training labels is wrong.

What it means: the model learns the rule first and the wrong labels later, one by one, from memory. Until
then it is right more often on clean held-out data than on its own training labels, or is sure of another
class than the label in just that share of the examples. The labels, not the model, need work.
How it is decided: a rate with an interval, from the first that can be had of (1) held-out accuracy a and
training accuracy t up to the best evaluation: a labeller who is wrong at rate r leaves t = a (1 - r) + (1 -
a) r / (k - 1), so r = (a - t) / (a - (1 - a) / (k - 1)), with a less in proportion where the model is less
sure in training, as of inputs made harder (augmentation); (2) the same from training and held-out loss, where
the model is less sure than right on held-out data; (3) the share of training examples that get another class
with more than 0.5 and their label with less than 0.1, where most errors are of this kind and even the easiest
tenth of the examples is not predicted with certainty, as when the best answer is a coin; (4) labels that have
nothing to do with the inputs: held-out accuracy of a guess all along and a held-out loss never below that of
a guess, while gradients reach every layer and training loss falls by memory; (5) as advice, the same where
not even memory helps although steps that were calm after a tenth of the run led far: the inputs do not tell
of the labels, if only because they get lost on their way (there held-out answers may be right of a class or
two by luck). The low end of the rate must pass 0.05 (1), 0.1 (2, 3), and errors must be confident or the
model less sure than right (up to 0.1 at the end as well, and by (1) and (2) both; where an accuracy is only
printed, even of its easiest tenth in training), beside strong dropout by all that the rate takes away while
steps still move the model; (4) and (5) bear dropout of a half. Where one example has many targets, as in a
text, mistakes cannot be told one by one from what is open: there (3) is not asked, and of a rate from 0.1 on
the model must be less sure than right on held-out data. Of several tags each is an answer of its own, yes or
no.
A warning; an error where labels are no better than chance.
Not applicable: targets are no classes; batches are sorted by class; examples have two labels each (mixup);
inputs are attacked in training;
too little training accuracy was read. (1), (2) and (4) need held-out accuracy; (1) and (4) take a printed
one at its word ("test acc").
"""

from __future__ import annotations

import numpy as np

from vario.nouns import Finding, NotApplicable, Severity
from vario.record import Record
from vario.rules._course import course
from vario.rules._evidence import Estimate, finite, trend
from vario.rules._examples import classes, graded, has_positions, labels_per_example, plain_loss
from vario.rules._held_out import accuracy_at, passes
from vario.rules._mixing import sorting
from vario.rules._model import dropouts
from vario.rules._wrong_labels import (
    against_accuracy,
    against_loss,
    confident_errors,
    is_underconfident,
    labels_at_random,
    labels_unrelated,
)

ID = "label-noise"
NO_RATE: dict[object, tuple[Severity, float]] = {  # estimates that tell one thing only
    labels_at_random: ("error", 0.8),  # an impossible task looks the same
    labels_unrelated: ("advice", 0.5),  # so does whatever loses the inputs on their way to the loss
}
STRONG = 0.3  # dropout above it lowers training accuracy and confidence as wrong labels do
USUAL = 0.5  # dropout that most nets learn with, so that it explains no guess
EXTREME = 0.8  # dropout from here on leaves a model too little to be sure of anything
CARD = {
    "papers": ("P024", "P060", "P075"),
    "reads": (
        "accuracy/train", "eval/accuracy", "eval/examples", "eval/loss", "examples/confident_wrong",
        "examples/loss_quantiles", "examples/confidence", "batch/class_counts", "update/ratio",
        "gradient/norm", "loss/train", "printed/score", "adversarial/abnormal_share",
    ),
    "checked": "closed form",
    "changed": "the papers rank single examples or train around them; the rule estimates one rate"
    " from what a single run shows",
    "harm": True,
    "summary": "About {share of wrong labels} of the training labels are wrong.",
}  # fmt: skip


def check(
    record: Record,
    *,
    least: float = 0.05,  # dropout and augmentation cost training accuracy a few points as well
    clear: float = 0.1,
    few: float = 4.0,  # labels to an example; a text has dozens
    corroborated: float = 0.5,  # of the errors are confident: dropout and slow learning make hesitant ones
) -> Finding | None:
    """A finding where a share of the labels contradicts what the model has learned."""
    count = classes(record)
    if count < 2:
        raise NotApplicable("the targets are no classes")
    mixed = sorting(record)
    if mixed is not None and mixed.low > 0.3:
        raise NotApplicable("the batches are sorted by class, so training accuracy says nothing about labels")
    if record.wheres("adversarial/abnormal_share"):
        raise NotApplicable("inputs of training are attacked: answers to them are wrong whatever the labels")
    reasons: list[str] = []
    estimates = (against_accuracy, against_loss, confident_errors, labels_at_random, labels_unrelated)
    positions = has_positions(record)
    if positions and labels_per_example(record) < few:
        raise NotApplicable(
            "two labels to an example, as a mixture (mixup) or pairs have: wrong ones do not show"
        )
    asked = [e for e in estimates if not positions or e is not confident_errors]
    for estimate in asked:
        try:
            found = estimate(record, count)
        except NotApplicable as reason:
            reasons.append(str(reason))
            continue
        if found is None:
            continue
        noise, evidence, span = found
        limit = least if estimate is against_accuracy and not _is_open(record) else clear
        # Of a model that knows nothing confidence tells nothing.
        blind = estimate in NO_RATE and max(dropouts(record).values(), default=0.0) <= USUAL
        if noise.low <= limit or not (blind or _is_corroborated(record, noise, span, corroborated)):
            continue
        severity: Severity = "warning" if noise.low > clear else "advice"
        sure = graded(noise.low, limit, 0.3, least=0.6, most=0.95)
        severity, sure = NO_RATE.get(estimate, (severity, sure))
        return Finding(
            ID, severity, sure, (), span, (noise.evidence("share of wrong labels", limit), *evidence)
        )
    if len(reasons) == len(asked):
        raise NotApplicable("; ".join(dict.fromkeys(reasons)))
    return None


def _is_corroborated(record: Record, noise: Estimate, span: tuple[int, int], part: float) -> bool:
    """Whether errors were confident, or the model less sure than right, as wrong labels make them.

    Dropout lowers training accuracy and confidence too, so that with much of it only confident errors
    count, or all of the confidence that the rate takes away, still missing when training has levelled off.
    From a rate of 0.45 on no class need have more than half, and errors are hesitant.
    """
    positions = _is_open(record)
    strongest = max(dropouts(record).values(), default=0.0)
    spared = STRONG < strongest < EXTREME and not positions and _lacks_all(record, noise)
    if noise.value > 0.45 and not positions:
        return strongest <= STRONG or spared
    steps, wrong = finite(*record.series("examples/confident_wrong"))
    at, right = finite(*record.series("accuracy/train"))
    inside = wrong[(steps >= span[0]) & (steps <= span[1])]
    errors = 1 - right[(at >= span[0]) & (at <= span[1])]
    unknown = not len(inside) or not len(errors)
    if not positions and (unknown or float(inside.mean()) >= part * float(errors.mean())):
        return True
    if strongest > (0.15 if positions else STRONG):
        return spared
    if not record.wheres("eval/confidence"):
        return spared or (not positions and _doubts_the_easiest(record, span))
    if noise.low <= 0.1 and not _is_agreed(record, noise):
        return spared
    return is_underconfident(record, noise.value)


def _is_open(record: Record) -> bool:
    """Whether an example has many targets that may be this or that, as words: tags are or are not."""
    return has_positions(record) and classes(record) > 2


def _doubts_the_easiest(record: Record, span: tuple[int, int]) -> bool:
    """Whether held-out answers are right more often than training says of its easiest tenth.

    Harder inputs (augmentation) leave the easiest of them sure; labels that are smoothed do not.
    """
    steps, quantiles = record.series("examples/loss_quantiles")
    inside = quantiles[(steps >= span[0]) & (steps <= span[1])]
    if not len(inside) or quantiles.ndim != 2 or not plain_loss(record):
        return False
    where, at, _ = passes(record, "eval/accuracy")
    right = accuracy_at(record, where, max(span[1], float(at[0])))
    return bool(np.exp(-np.median(inside[:, 1])) < right.low)


def _is_agreed(record: Record, noise: Estimate, *, least: float = 0.05) -> bool:
    """Whether losses say so as well, and the model is as unsure at the end: a small rate takes both."""
    try:
        found = against_loss(record, classes(record))
    except NotApplicable:
        return False
    if found is None or found[0].low <= least:
        return False
    return is_underconfident(record, noise.value, at_the_end=True)


def _lacks_all(record: Record, noise: Estimate, *, moved: float = 1e-4) -> bool:
    """Whether, at the end, held-out answers lack all the confidence that wrong labels take away.

    In evaluation nothing is dropped: a model that dropout has only slowed down gets surer as it learns, as
    long as its steps still move it.
    """
    if not record.wheres("eval/confidence") or noise.low <= 0.1:
        return False
    run = course(record)
    late = run.steps > run.steps[-1] * 2 / 3
    falls = trend(run.steps[late], run.values[late]).high < 0
    at, ratio = finite(*record.series("update/ratio"))
    learns = ratio[at >= record.step_count / 2]
    if len(learns) and np.median(learns) < moved:
        return False
    return not falls and is_underconfident(record, noise.low, part=1.0, at_the_end=True)
