"""The learning rate is too high: each step changes the weights by far more than the loss can bear.

What it means: steps overshoot. The loss explodes, sits at what a constant guess gives after an early
explosion, or bounces far above where it could be; ReLU units may die on the way. A lower rate is the
cure.
How it is decided: large steps alone are no evidence (plain SGD at a good rate takes some). Two things
must come together: the run fails (its loss ends above its start, never falls below a constant guess, is
no longer a number), its loss exploded early, or it had fallen and rose again by 15 % of what it had won;
and the largest update in that time, running median of three steps, was more than 10 % of the norm of the
weights. Where the loss exploded before it failed, 2 % suffices; where the run fails and successive
gradients point against each other, 1 % does. The rate that would make the same update 1 % of the weights
is given as the limit beside the rate that was used.
Not applicable: fewer than 5 readings of the training loss or none of the update ratio; a run whose
gradients are carried over from step to step grows its steps by itself and is judged there.
"""

from __future__ import annotations

import numpy as np

from vario.nouns import Evidence, Finding, NotApplicable, Severity
from vario.record import Record
from vario.rules._course import Course, course
from vario.rules._evidence import confidence, exactly, finite, level, trend
from vario.rules._parameters import running_max

ID = "learning-rate-too-high"
CARD = {
    "papers": ("P345", "P248"),
    "reads": ("loss/train", "update/ratio", "gradient/cosine", "hyper/lr"),
    "checked": "closed form: gradient descent on a parabola past twice the inverse curvature",
    "changed": "",
    "summary": "With a learning rate of {learning rate} one step changed the weights by "
    "{largest update ratio} "
    "of their norm, and the loss does not fall as it should.",
}


def check(
    record: Record,
    *,
    ratio_limit: float = 0.1,  # usual ratios are 0.0001 to 0.01; ten steps of 0.1 replace the weights
    exploded_limit: float = 0.02,  # with an explosion as a second witness, a smaller excess convinces
    opposed_limit: float = 0.01,
    peak_limit: float = 3.0,  # the loss of single batches rarely triples without overshooting
    forgotten: float = 0.15,  # of all that was won; noise around a floor moves the level by a few per cent
    usual: float = 0.01,
) -> Finding | None:
    """A finding where the run fails or exploded, and its updates were too large for its weights."""
    run = course(record, count=5)
    steps, ratio = _before_failure(record, run)
    at, largest = running_max(steps, ratio)
    exploded = run.peak > peak_limit * run.start.value > 0 or run.state == "worse" or _blew_up(record, run)
    forgot = _forgot(run, forgotten)
    opposed = _opposed(record)
    limit = exploded_limit if exploded else opposed_limit if opposed else ratio_limit
    bad = (run.failing and largest > limit) or (exploded and largest > ratio_limit)
    if forgot is not None and largest > exploded_limit:
        bad, limit = True, min(limit, exploded_limit)
    if not bad:
        return None
    severity: Severity = "error" if run.failing else "warning"
    rate = record.last("hyper/lr", "group 0")
    evidence = [
        exactly("largest update ratio", largest, limit),
        run.end.evidence("loss at the end", run.start.value),
    ]
    if np.isfinite(rate):
        evidence.append(exactly("learning rate", rate, rate * usual / largest))
    evidence += [e for e in (opposed, forgot) if e is not None]
    sure = confidence(largest, limit, least=0.7, most=0.97)
    return Finding(ID, severity, sure, (), (at, record.step_count - 1), tuple(evidence))


def _before_failure(record: Record, run: Course) -> tuple[np.ndarray, np.ndarray]:
    steps, ratio = finite(*record.need("update/ratio", 1))
    if run.bad_step is not None:
        before = steps <= run.bad_step
        steps, ratio = steps[before], ratio[before]
    if not len(ratio):
        raise NotApplicable("no finite reading of update/ratio before the loss broke")
    return steps, ratio


def _blew_up(record: Record, run: Course) -> bool:
    """The loss rose tenfold before it ceased to be a number."""
    if run.bad_step is None or not len(run.values):
        return False
    before = run.values[run.steps <= run.bad_step]
    return bool(len(before) and before.max() > 10 * run.start.value > 0)


def _forgot(run: Course, part: float) -> Evidence | None:
    """Training loss that fell and rose again, and stayed up: what the run had won, its steps destroyed."""
    won, lost = run.start.value - run.lowest, run.end.low - run.lowest
    if run.state in ("non-finite", "worse") or lost <= max(part * won, 2 * run.noise):
        return None
    last = run.steps >= run.steps[len(run.steps) // 2]
    if trend(run.steps[last], run.values[last]).high < 0:
        return None  # it is on its way down again
    return exactly("share of the progress that was lost again", lost / won, part)


def _opposed(record: Record) -> Evidence | None:
    """Successive gradients that point against each other: the run jumps across a valley."""
    cosine = finite(*record.series("gradient/cosine"))[1]
    if len(cosine) < 6:
        return None
    found = level(cosine)
    return found.evidence("cosine of successive gradients", -0.2) if found.high < -0.2 else None
