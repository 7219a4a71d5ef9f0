"""The model generalised long after it had fitted its training data.

What it means: training accuracy was complete while held-out accuracy was still poor, and rose much later
(grokking). Stopping when training was done would have lost it; weight decay and a numerically sound loss
shorten the wait.
How it is decided: the first step from which training accuracy stays at 0.99 (running mean of five readings);
held-out accuracy at that time and at the end, whose difference must pass 0.2 at the low end of its interval;
half of that rise must come after twice the steps in which training was fitted, or later. Of a regression: the
steps after which the losses of training and of held-out data had lost nine tenths of the starting loss, the
second at least twice the first, and a fifth of it or more was lost by held-out data in between. Advice: it is
good news.
Not applicable: training accuracy never reached 0.99 for five readings, or held-out accuracy was evaluated
fewer than twice since; of a regression, the loss never fell so far, or was evaluated fewer than four times.
"""

from __future__ import annotations

import numpy as np

from vario.nouns import Evidence, Finding, NotApplicable
from vario.record import Record
from vario.rules._course import course
from vario.rules._evidence import exactly, finite, first_step, need_finite
from vario.rules._examples import classes, graded
from vario.rules._held_out import accuracy_at, passes

ID = "delayed-generalization"
CARD = {
    "papers": ("P018", "P072", "P064"),
    "reads": ("accuracy/train", "eval/accuracy", "eval/examples", "loss/train", "eval/loss"),
    "checked": "closed form; the clusters of P018 and the quadratic target of P072, run",
    "changed": "P072 compares the times at which both errors fall below 0.1; here that is a tenth of the "
    "starting loss, and of classes the held-out time is that of half the rise",
    "summary": "Training was fitted after {steps until training was fitted} steps, held-out data only after "
    "{steps until held-out data followed}.",
}


def check(
    record: Record,
    *,
    fitted: float = 0.99,
    rise: float = 0.2,  # held-out accuracy often gains some points after training is complete
    times: float = 2.0,  # P072's delays at its weakest laziness begin at 2.4
    readings: int = 5,
) -> Finding | None:
    """A finding where held-out data were answered long after training was fitted."""
    if not classes(record) and len(finite(*record.series("loss/train"))[0]):
        return _of_a_regression(record, rise, times, readings)
    at, right = need_finite(*record.need("accuracy/train", readings), readings, "accuracy/train")
    smooth = np.convolve(right, np.ones(readings) / readings, mode="valid")
    done = first_step(at[: len(smooth)], smooth >= fitted)
    if done is None:
        raise NotApplicable(f"training accuracy never reached {fitted:.2f}; before that nothing is delayed")
    where, steps, values = passes(record, "eval/accuracy", 2)
    # The forward of a step sees the weights of the evaluation after the step before.
    since = steps >= done - 1
    if since.sum() < 2:
        raise NotApplicable(
            f"{since.sum()} evaluations since training was fitted at step {done}; 2 are needed"
        )
    first = float(steps[since][0])
    then, now = accuracy_at(record, where, first), accuracy_at(record, where, float(steps[-1]))
    gain = now.value - then.value
    low = gain - float(np.hypot(now.value - now.low, then.high - then.value))
    high = gain + float(np.hypot(now.high - now.value, then.value - then.low))
    half = int(steps[since][np.argmax(values[since] >= then.value + gain / 2)])
    gained = Evidence("rise of held-out accuracy", gain, low, high, rise, where)
    return _found(gained, done, half, times)


def _of_a_regression(
    record: Record, rise: float, times: float, readings: int, *, left: float = 0.1, count: int = 4
) -> Finding | None:
    """By losses: both fall below a tenth of where training began, one long after the other."""
    run = course(record)
    smooth = np.convolve(run.values, np.ones(readings) / readings, mode="valid")
    done = first_step(run.steps[: len(smooth)], smooth <= left * run.start.value)
    if done is None or not run.start.value > 0:
        raise NotApplicable(f"the training loss never fell to {left:.2f} of its start; nothing is delayed")
    where, steps, values = passes(record, "eval/loss", count)
    values = values / run.start.value
    late = first_step(steps, values <= left)
    since = steps >= done - 1
    if late is None or late <= done or since.sum() < 2:
        return None
    # Usual changes between evaluations that are more than the trend are noise, twice over.
    changes = np.abs(np.diff(values) - np.median(np.diff(values)))
    noise = 1.96 * 1.4826 * float(np.median(changes))
    gain = float(values[since][0] - values[-1])
    gained = Evidence("fall of the held-out loss", gain, gain - noise, gain + noise, rise, where)
    return _found(gained, done, late, times)


def _found(gained: Evidence, done: int, late: int, times: float) -> Finding | None:
    """``done``: steps before training was seen to be fitted; ``late``: the step before an evaluation."""
    before, after = max(done, 1), late + 1
    if gained.low <= gained.limit or after / before < times:
        return None
    evidence = (
        gained,
        exactly("steps until training was fitted", before, np.nan),
        exactly("steps until held-out data followed", after, times * before),
    )
    sure = graded(gained.low, gained.limit, 0.5, least=0.75)
    return Finding(ID, "advice", sure, (), (done, late), evidence)
