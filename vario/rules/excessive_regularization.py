"""Regularisation is so strong that the model cannot fit even its training data.

What it means: dropout (or noise like it) hides so much that the loss with it stays high, while the same
model without it, in evaluation, does clearly better on data that it has never seen.
How it is decided: a regulariser that acts only in training is there (dropout with p of at least 0.5), the
training loss has lost less than half of its start (of a regression, of what a guess costs) and the last
evaluations lie below it by more than 15 %. Or they are right twice as often as training and their loss lies
15 % below that of a guess, whatever the training loss has lost (its start is large where dropout scales up
what it lets through, and its end hides what is learned). Dropout of at least 0.8 adds noise of four times
the square of the signal (p over 1 - p) to every unit: there a loss that never fell 5 % below that of a guess
suffices, and one that fell by less than half gives advice, whatever evaluations say. Advice, too, where the
dropout is below 0.7; there nothing is said of a model whose evaluations, without it, have won half of what a
guess costs: smoothed, mixed or wrong labels keep a training loss as high.
Not applicable: the list of modules was not recorded; no dropout of that strength.
"""

from __future__ import annotations

import numpy as np

from vario.nouns import Evidence, Finding, NotApplicable, Severity
from vario.record import Record
from vario.rules._course import Course, course
from vario.rules._evidence import Estimate, exactly, finite, level
from vario.rules._examples import train_accuracy
from vario.rules._held_out import accuracy_at, passes
from vario.rules._model import dropouts, rows

ID = "excessive-regularization"
CARD = {
    "papers": (),
    "reads": ("loss/train", "eval/loss", "accuracy/train", "eval/accuracy"),
    "checked": "closed form: constant losses on both sides of the limits",
    "changed": "",
    "summary": "With dropout of {strongest dropout} the training loss stays at {loss at the end}.",
}


def check(
    record: Record,
    *,
    strong: float = 0.5,  # the usual strongest setting
    unusual: float = 0.7,  # below it wrong labels or a short run leave the same picture as often
    extreme: float = 0.8,
    slow: float = 0.5,
    gap: float = 0.15,
    never: float = 0.05,  # of the loss of a guess, which the bias of the last layer alone can win
    times: float = 2.0,  # held-out over training accuracy; usually they are within a few points
) -> Finding | None:
    """A finding where dropout keeps the training loss high and evaluation is clearly better."""
    if not rows(record, "modules"):
        raise NotApplicable("the list of modules was not recorded")
    rates = dropouts(record)
    found = {name: p for name, p in rates.items() if p >= strong}
    if not found:
        raise NotApplicable(f"no dropout of {strong} or more among the {len(rates)} that were seen")
    run = course(record)
    evaluation = _last_evaluation(record)
    # Right answers alone tell little: at the very start they move before any loss does.
    learned_at_all = not evaluation > (1 - gap) * run.chance
    hidden = _hidden(record, times) if learned_at_all else None
    if run.state in ("non-finite", "worse") or not (_learned(record, run) < slow or hidden is not None):
        return None
    where, strongest = max(found.items(), key=lambda item: item[1])
    limit = (1 - slow) * run.start.value
    evidence: list[Evidence] = [
        exactly("strongest dropout", strongest, strong, where),
        run.end.evidence("loss at the end", limit),
    ]
    steps = (int(run.steps[0]), int(run.steps[-1]))
    # Nothing was learned, with it or without: noise of several times the signal in every unit explains that.
    if (run.state == "stuck" or run.won < never) and strongest >= extreme:
        return Finding(ID, "warning", 0.75, tuple(found), steps, tuple(evidence))
    severity: Severity = "warning" if strongest >= unusual else "advice"
    if hidden is not None:
        return Finding(ID, severity, 0.85, tuple(found), steps, (*evidence, hidden))
    if strongest < unusual and evaluation < slow * np.fmin(run.start.value, run.chance):
        return None  # it can fit, and something else keeps the loss of training up
    if np.isfinite(evaluation) and evaluation <= (1 - gap) * run.end.low:
        evidence.append(exactly("loss in evaluation", evaluation, (1 - gap) * run.end.value))
        return Finding(ID, severity, 0.85, tuple(found), steps, tuple(evidence))
    if strongest < extreme:
        return None
    # With evaluations that are no better: what gets through so little learns little for them as well.
    return Finding(ID, "advice", 0.65, tuple(found), steps, tuple(evidence))


def _learned(record: Record, run: Course) -> float:
    """The share of the loss that is gone: of its start, or of a guess where the start cost more.

    Dropout scales up what it lets through, and with it the first errors of a regression; the square of the
    targets' spread is what a constant guess costs there.
    """
    spread = finite(*record.series("target/std"))[1]
    guess = float(np.median(spread)) ** 2 if len(spread) and run.end.value > 0 else np.nan
    gone = 1 - run.end.value / guess if 0 < guess < run.start.value else np.inf
    return float(np.nanmin([run.fall, gone]))


def _hidden(record: Record, times: float) -> Evidence | None:
    """How many times as often as in training the last evaluation is right, where that is clear."""
    try:
        where, steps, _ = passes(record, "eval/accuracy")
        seen = train_accuracy(record, float(steps[-1]) / 2, float(steps[-1]))
        unseen = accuracy_at(record, where, float(steps[-1]))
    except NotApplicable:
        return None
    if unseen.low <= times * seen.high:
        return None
    ratio = Estimate(
        unseen.value / max(seen.value, 1e-9), unseen.low / seen.high, unseen.high / max(seen.low, 1e-9)
    )
    return ratio.evidence("held-out over training accuracy", times, where)


def _last_evaluation(record: Record) -> float:
    """The lowest of the loaders' last evaluation losses (a median of three passes); nan without any."""
    found = [
        level(finite(*record.series("eval/loss", where))[1][-3:]).value
        for where in record.wheres("eval/loss")
    ]
    return min((value for value in found if np.isfinite(value)), default=np.nan)
