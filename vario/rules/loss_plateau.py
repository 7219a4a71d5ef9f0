"""The training loss never left its starting level, or is no better than a guess.

What it means: the model does not learn. This is a symptom; the cause, where it could be told, stands
above it.
How it is decided: the level of the loss over the last tenth lies less than 5 % (or less than the noise of
one step) below that of the first steps, or within 3 % of what guessing by class shares gives; the low end of
its interval must lie above that limit, or the level itself above what guessing gives.
Not applicable: fewer than 20 readings of the training loss; several models trained against each other; losses
so noisy that the interval holds the limit: where the answer is mostly chance (returns of an asset), a run
that has learned all there is to learn looks the same; a model too narrow for its classes (underfitting).
"""

from __future__ import annotations

import numpy as np

from vario.nouns import Finding, NotApplicable
from vario.record import Record
from vario.rules._course import course
from vario.rules._evidence import exactly
from vario.rules._model import is_too_narrow

ID = "loss-plateau"
CARD = {
    "papers": (),
    "reads": ("loss/train", "batch/class_counts"),
    "checked": "closed form: a constant loss with noise; the entropy of the class shares",
    "changed": "",
    "alone": True,
    "summary": "The training loss is {loss at the end} at the end; it began at {loss at the start}; "
    "guessing by class shares gives {loss of guessing by class shares}.",
}


def check(record: Record) -> Finding | None:
    """A finding where the loss stayed flat from the first step to the last."""
    run = course(record)
    if run.state != "stuck":
        return None
    if is_too_narrow(record):
        raise NotApplicable("the model is too narrow for its classes, which is what keeps its loss up")
    limit = float(np.fmin(0.97 * run.chance, 0.95 * run.start.value))
    if run.end.low <= limit and not run.end.value > run.chance:
        raise NotApplicable(
            f"the loss ends between {run.end.low:.3g} and {run.end.high:.3g}, and would have fallen below "
            f"{limit:.3g}: too noisy to tell"
        )
    evidence = [run.start.evidence("loss at the start", limit), run.end.evidence("loss at the end", limit)]
    if np.isfinite(run.chance):
        evidence.append(exactly("loss of guessing by class shares", run.chance, run.chance))
    at_chance = np.isfinite(run.chance) and abs(run.end.value / run.chance - 1) < 0.03
    sure = 0.95 if at_chance else 0.8
    return Finding(ID, "warning", sure, (), (int(run.steps[0]), int(run.steps[-1])), tuple(evidence))
