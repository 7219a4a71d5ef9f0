"""The learning rate is too low: the loss falls, but so slowly that the run will not get there.

What it means: the steps are far smaller than they need to be. The loss curve is nearly a straight line
and does not level off; a larger rate would do the same in a fraction of the steps.
How it is decided: the training loss, or the held-out loss where it was evaluated six times or more, falls
(interval of the Theil-Sen trend of its second half below zero; fewer than twenty readings take its width
from the whole curve) or has barely moved, and the weights by 2 % in all (5 % where ten times the step would
still be small; with less than 2 % it may even rise, as another model gets better); what it lost in the
second half is at least 40 % of what it lost in the first half, where a run at a good rate gains most at
first; one step changes the weights by less than 0.05 % of their norm; and all steps together moved them by
less than a tenth of their norm, or a third where ten times the step would still be usual, little has been won
or the loss clearly falls faster in the second half. Or the run is only leaving its start: little has been won
yet (less than a fifth of what a guess costs), the loss falls, faster in the second half than in the first (or
all along, where half of the readings are too noisy to tell, as also where the weights moved by less than
2 %), a rate three times as large would be usual, and the weights moved by less than a third of their norm.
Or it has only come down to what a guess costs and still falls (by 1 % of that in the second half), ten
times the step would be usual, and the weights moved by less than a tenth of their norm.
Not applicable: fewer than 20 readings of the training loss or 5 of the update ratio; a loss that has come to
rest above its floor, with no gradient left: whether larger steps would have found a lower minimum no single
run tells.
"""

from __future__ import annotations

import numpy as np

from vario.nouns import Finding, NotApplicable
from vario.record import Record
from vario.rules._course import Course, course
from vario.rules._evidence import (
    Estimate,
    Floats,
    Steps,
    confidence,
    exactly,
    finite,
    level,
    need_finite,
    trend,
)
from vario.rules._held_out import passes
from vario.rules._parameters import of_usual_weights

ID = "learning-rate-too-low"
CARD = {
    "papers": ("P116", "P345"),
    "reads": ("loss/train", "update/ratio", "hyper/lr", "gradient/norm"),
    "checked": "closed form: gradient descent on a parabola far below the inverse curvature",
    "changed": "",
    "summary": "With a learning rate of {learning rate} a step changes the weights by {update "
    "ratio} of their norm; "
    "after all steps the loss is still falling in a nearly straight line.",
}


def check(
    record: Record,
    *,
    ratio_limit: float = 5e-4,  # usual ratios are 1e-4 to 1e-2; the path below decides beside it
    path_limit: float = 0.1,  # a network leaves its starting point by about its own norm to learn
    still_limit: float = 0.02,  # after which no healthy net has learned anything
    straight: float = 0.4,  # a straight line would be 1, exponential decay over three time constants 0.22
    usual: float = 3e-3,
    leaving_path: float = 1 / 3,  # the same of a run still near where it began, though it gathers speed
    little: float = 0.2,  # of what a guess costs, as where harm is shown
) -> Finding | None:
    """A finding where the loss falls in a straight line and the weights hardly move."""
    run = course(record)
    if _is_at_rest(record, run):
        raise NotApplicable(
            f"the loss has come to rest at {run.end.value:.3g}; whether larger steps would have found a "
            "lower minimum one run cannot tell"
        )
    at, ratio = need_finite(*record.need("update/ratio", 5), 5, "update/ratio")
    ratio = ratio * of_usual_weights(record, at)
    typical = level(ratio)
    path = float(ratio @ np.diff(at, append=record.step_count))  # a reading stands until the next
    # A loss that rises while the weights stay is that of an opponent who learns.
    if run.state == "non-finite" or (run.state == "worse" and path >= still_limit) or typical.value <= 0:
        return None
    short = path < path_limit and typical.high < usual / 10
    # Where ten times the step would still be small, most of a long path is noise that leads nowhere.
    tiny = typical.high < ratio_limit / 10 and path < path_limit / 2
    halves = [_halves(*curve) for curve in ((run.steps, run.values), _evaluations(record))]
    gathers_speed = any(second.high < first.low < 0 for first, second in halves)
    leaving = run.state == "stuck" or run.won < little
    if typical.high < (ratio_limit if leaving or gathers_speed else usual / 10):
        path_limit = leaving_path  # much larger steps would be usual, and a straight line leads on
    elif leaving:
        # Only leaving its start: a rate three times as large would be usual, and the loss gathers speed.
        path_limit, ratio_limit, straight = leaving_path, usual / 3, 1.0
    if path > path_limit or typical.high > ratio_limit:
        return None
    straight_ones = [
        pair for pair in halves if pair[1].high < 0 and pair[1].value < straight * pair[0].value < 0
    ]
    # A run that leaves its start, or whose weights stayed there, may fall too little for half of it to tell.
    slow = (leaving or path < still_limit) and trend(run.steps, run.values).high < 0
    slow = slow and halves[0][1].value < 0 and halves[0][1].low < straight * halves[0][0].value
    falling = bool(straight_ones) or slow or (short and _came_down_to_a_guess(run, halves[0][1]))
    first, second = (straight_ones or halves)[0]
    # A loss that has not moved shows no trend above its noise; weights that have not moved say the same.
    still = run.state in ("stuck", "worse") and (path < still_limit or tiny)
    if not falling and not still:
        return None
    rate = max(finite(*record.series("hyper/lr", "group 0"))[1], default=np.nan)  # the one typed
    evidence = [
        typical.evidence("update ratio", ratio_limit),
        exactly("path of the weights", path, path_limit),
        second.evidence("change of the loss in the second half", straight * first.value),
    ]
    if np.isfinite(rate):
        evidence.insert(0, exactly("learning rate", rate, rate * usual / typical.value))
    sure = confidence(path_limit, path, least=0.65, most=0.92)
    return Finding(ID, "warning", sure, (), (int(run.steps[0]), int(run.steps[-1])), tuple(evidence))


def _came_down_to_a_guess(run: Course, second: Estimate, *, clear: float = 0.01) -> bool:
    """Whether a loss that has won nothing beyond a guess still falls in the second half.

    What brings first weights down to a guess is no gain, though the second half looks slow beside it.
    """
    return run.state == "stuck" and second.high < -clear * run.chance


def _is_at_rest(
    record: Record,
    run: Course,
    *,
    gone: float = 1e-3,  # of the gradient at the start: what is left moves the loss by a millionth
    floor: float = 0.05,  # of the starting loss; below it nearly all that there was has been won
) -> bool:
    """Whether the gradient has vanished where the loss has not: a minimum, of which there may be others."""
    norms = finite(*record.series("gradient/norm"))[1]
    if len(norms) < 10 or run.state == "non-finite" or run.end.value < floor * run.start.value:
        return False
    moves = float(np.ptp(run.values[-max(len(run.values) // 4, 5) :]))
    return bool(norms[-3:].max() < gone * norms[:3].max() and moves < gone * abs(run.start.value))


def _halves(steps: Steps, values: Floats) -> tuple[Estimate, Estimate]:
    """Trends over the two halves of the steps; readings lie closer together at the start of a run."""
    half = int((steps < steps[-1] / 2).sum()) if len(steps) else 0
    first, second = trend(steps[:half], values[:half]), trend(steps[half:], values[half:])
    if len(steps) >= 20:
        return first, second
    # So few readings have no interval in each half: all of them together have.
    whole = trend(steps, values)
    return _as_wide(first, whole), _as_wide(second, whole)


def _as_wide(found: Estimate, whole: Estimate) -> Estimate:
    """The value of a half with the interval of the whole, which is over twice the steps."""
    return Estimate(
        found.value,
        found.value + (whole.low - whole.value) / 2,
        found.value + (whole.high - whole.value) / 2,
    )


def _evaluations(record: Record) -> tuple[Steps, Floats]:
    """Held-out losses, which have no noise of batches; nothing where there are fewer than 6."""
    try:
        return passes(record, "eval/loss", 6)[1:]
    except NotApplicable:
        return np.empty(0, np.int64), np.empty(0)
