"""The model generalised long after it had fitted its training data.

What it means: training accuracy was complete while held-out accuracy was still poor, and rose much later
(grokking). Stopping when training was done would have lost it; weight decay and a numerically sound loss
shorten the wait.
How it is decided: the first step from which training accuracy stays at 0.99 (running mean of five readings);
held-out accuracy at that time and at the end, whose difference must pass 0.2 at the low end of its interval;
half of that rise must come at more than twice the step at which training was fitted. Advice: it is good news.
Not applicable: training accuracy never reached 0.99 for five readings, or held-out accuracy was evaluated
fewer than twice since.
"""

from __future__ import annotations

import numpy as np

from vario.nouns import Evidence, Finding, NotApplicable
from vario.record import Record
from vario.rules._evidence import exactly, first_step, need_finite
from vario.rules._examples import graded
from vario.rules._held_out import accuracy_at, passes

ID = "delayed-generalization"
CARD = {
    "papers": ("P018", "P072", "P064"),
    "reads": ("accuracy/train", "eval/accuracy", "eval/examples"),
    "checked": "closed form",
    "changed": "P072 compares the times at which both errors fall below 0.1; here the held-out "
    "time is that of half the rise",
    "summary": "Training was fitted at step {step when training was fitted}; held-out accuracy "
    "rose by {rise of held-out accuracy:%} after that, "
    "half of it by step {step of half the rise}.",
}


def check(
    record: Record,
    *,
    fitted: float = 0.99,
    rise: float = 0.2,  # held-out accuracy often gains some points after training is complete
    times: float = 2.0,  # P072's delays at its weakest laziness begin at 2.4
    readings: int = 5,
) -> Finding | None:
    """A finding where held-out accuracy rose long after training accuracy was complete."""
    at, right = need_finite(*record.need("accuracy/train", readings), readings, "accuracy/train")
    smooth = np.convolve(right, np.ones(readings) / readings, mode="valid")
    done = first_step(at[: len(smooth)], smooth >= fitted)
    if done is None:
        raise NotApplicable(f"training accuracy never reached {fitted:.2f}; before that nothing is delayed")
    where, steps, values = passes(record, "eval/accuracy", 2)
    since = steps >= done
    if since.sum() < 2:
        raise NotApplicable(
            f"{since.sum()} evaluations since training was fitted at step {done}; 2 are needed"
        )
    first = float(steps[since][0])
    then, now = accuracy_at(record, where, first), accuracy_at(record, where, float(steps[-1]))
    gain = now.value - then.value
    low = gain - float(np.hypot(now.value - now.low, then.high - then.value))
    high = gain + float(np.hypot(now.high - now.value, then.value - then.low))
    if low <= rise:
        return None
    half = int(steps[since][np.argmax(values[since] >= then.value + gain / 2)])
    # Steps count from 0, so the number of steps taken is one more.
    if (half + 1) / (done + 1) <= times:
        return None
    evidence = (
        Evidence("rise of held-out accuracy", gain, low, high, rise, where),
        exactly("step when training was fitted", done, np.nan),
        exactly("step of half the rise", half, times * (done + 1)),
    )
    return Finding(ID, "advice", graded(low, rise, 0.5, least=0.75), (), (done, half), evidence)
