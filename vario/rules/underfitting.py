"""The training loss has levelled off high: the model does not fit its own training data.

What it means: more steps of the same kind will not help. The model is too small or too constrained, the
inputs do not hold the answer, or something else on this list keeps it from learning (then that stands
above).
How it is decided: the loss over the last third of the run no longer falls (the 95 % interval of its trend
lies above a fall of 1 % of the level, or reaches above it where single readings differ by more or the loss
never left what a guess gives), its level is above 70 % of what guessing by class shares gives (of the
starting loss where no classes are known), and evaluation, where there is one, is not worse than training by
more than 10 %. Advice. A model is too narrow where its last layer chooses among k classes by fewer than log2
k numbers (a number that is on or off tells two classes apart): there the loss may still fall, and where it
never left what a guess gives this is a warning. A regression is too narrow where a layer gives a single
number and the next is given no other: there 30 % of what the best constant costs is enough (of the variance
of the targets, where the loss began as a squared error of them), and less than a tenth of it was lost over
the last third. Outputs of shape (N, 1) beside targets of shape (N) are held against all targets of the
batch, each against each: then no answer is better than the mean of the batch, however long it is trained.
Not applicable: fewer than 24 readings of the training loss; several models trained against each other;
a loss that began far below what a guess costs, as that of a model which is trained on.
"""

from __future__ import annotations

import numpy as np

from vario.nouns import Evidence, Finding, NotApplicable, Severity
from vario.record import Record
from vario.rules._course import began_trained, course
from vario.rules._evidence import exactly, finite, level, trend
from vario.rules._model import is_too_narrow

ID = "underfitting"
CROSSED = "targets beside each output"
CARD = {
    "papers": (),
    "reads": ("loss/train", "eval/loss", "batch/class_counts", "target/pairs"),
    "checked": "closed form: a constant loss with noise, a falling line",
    "changed": "",
    "alone": True,
    "harm": "targets beside each output",
    "summary": "The training loss ended at {loss at the end}; guessing gives {loss of guessing}; each output"
    " was held against {targets beside each output} targets of its batch, as the shapes of the two differ.",
}


def check(
    record: Record,
    *,
    part: float = 0.7,  # real but hard tasks (40 % noise, small text models) end near or below it
    left: float = 0.3,  # of a regression by a single number, which has a reason to end there
    slow: float = 0.1,  # of it, lost over the last third, at which pace it would not get far either
    gap: float = 1.1,
) -> Finding | None:
    """A finding where the training loss is flat and still near that of guessing."""
    run = course(record, count=24)
    pairs = level(finite(*record.series("target/pairs"))[1])
    if pairs.low > 1:
        crossed = (run.end.evidence("loss at the end", np.nan), pairs.evidence(CROSSED, 1.0))
        return Finding(ID, "warning", 0.9, (), (int(run.steps[0]), int(run.steps[-1])), crossed)
    if began_trained(record, run):
        raise NotApplicable("the loss began far below what a guess costs, so what that is is not known")
    known = np.isfinite(run.chance)
    guess = run.chance if known else _best_constant(record, run.start.value)
    # Of the steps, not of the readings, which lie closer together at first.
    third = max(int((run.steps > run.steps[-1:] * 2 / 3).sum()), 8)
    last = trend(run.steps[-third:], run.values[-third:])
    height = abs(run.end.value)
    narrow = is_too_narrow(record)
    part = left if narrow and not known else part
    clear, perhaps = -0.01 * height, -0.01 * height - run.noise / 3
    # A fall that is sure is one, whatever the noise of single readings.
    flat = not (last.high < clear or (run.state != "stuck" and last.low < perhaps))
    if (
        run.state in ("non-finite", "worse")
        or guess <= 0
        or run.end.low <= part * guess
        or not (flat or (narrow and (known or last.value > -slow * height)))
    ):
        return None
    evaluations = [finite(*record.series("eval/loss", where))[1][-1:] for where in record.wheres("eval/loss")]
    worst = max((float(v[0]) for v in evaluations if len(v)), default=np.nan)
    if worst > gap * run.end.high:
        return None
    evidence: list[Evidence] = [
        run.end.evidence("loss at the end", part * guess),
        exactly("loss of guessing", guess, guess),
        last.evidence("change over the last third", -0.01 * height),
    ]
    if np.isfinite(worst):
        evidence.append(exactly("loss in evaluation", worst, gap * run.end.value))
    stuck = run.state == "stuck"
    sure = 0.75 if stuck or narrow else 0.55
    severity: Severity = "warning" if stuck and narrow else "advice"
    return Finding(ID, severity, sure, (), (int(run.steps[-third]), int(run.steps[-1])), tuple(evidence))


def _best_constant(record: Record, start: float, *, off: float = 2.0) -> float:
    """The variance of the targets where the loss began as their square, as with outputs near 0."""
    means, stds = (finite(*record.series(f"target/{name}"))[1] for name in ("mean", "std"))
    if not len(means) or len(means) != len(stds):
        return start
    spread = float((stds**2).mean() + means.var())
    square = spread + float(means.mean()) ** 2
    return min(start, spread) if square / off < start < off * square else start
