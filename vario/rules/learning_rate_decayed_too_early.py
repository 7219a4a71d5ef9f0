"""The schedule took the learning rate away long before the run was done.

What it means: most of the run was spent at a rate at which nothing moves any more. The usual reason is a
schedule written in epochs but stepped after every batch.
How it is decided: in every group of parameters more than half of the steps ran at 1 % of the highest rate
or less, and none above that came after (a cosine or a line to zero spends under 7 % of its steps there,
three decays by ten at 50 %, 75 % and 90 % a quarter); and the loss had not arrived: at the end it is still
above 5 % of its start. Where the record knows how often the scheduler was stepped per epoch, that number is
given. A schedule that lowers the rate when results stop getting better (ReduceLROnPlateau) took it away for
a reason, and is advice.
Not applicable: fewer than 20 readings of the learning rate or of the training loss.
"""

from __future__ import annotations

import numpy as np

from vario.nouns import Evidence, Finding, Severity
from vario.record import Record
from vario.record.stream import Steps, Values
from vario.rules._course import course
from vario.rules._evidence import exactly, finite, need_finite, share

ID = "learning-rate-decayed-too-early"
CARD = {
    "papers": ("P029",),
    "reads": ("hyper/lr", "loss/train"),
    "checked": "closed form: exponential decay by 0.95 per step and per epoch",
    "changed": "",
    "harm": True,
    "summary": "{share of steps after the decay} of the steps ran at 1 % of the highest "
    "learning rate or less; it fell to that at step {step of the decay}.",
}


def check(
    record: Record,
    *,
    part: float = 0.01,  # of the highest rate: a hundred steps then move what one moved before
    most: float = 0.5,  # share of steps that may run below it
    arrived: float = 0.05,  # a loss this close to zero has nothing left to gain
) -> Finding | None:
    """A finding where most of the run took place at a vanishing learning rate."""
    steps, rate = need_finite(*record.need("hyper/lr", 20, "group 0"), 20, "hyper/lr")
    run = course(record)
    highest = int(rate.argmax())
    # A long warm-up is not a decay, so only what follows the highest rate counts.
    weight = np.diff(steps, append=record.step_count).astype(float)  # a reading stands until the next
    # Two decays by ten are one by a hundred, but for rounding.
    low = np.maximum(rate / rate[highest], _of_others(record, steps)) <= 1.001 * part
    low[:highest] = False
    if not low[low.argmax() :].all():
        return None  # it came back, and may again
    spent = float(weight[low].sum() / weight.sum())
    if spent <= most or run.fall > 1 - arrived or run.state in ("non-finite", "worse"):
        return None
    first = int(steps[low.argmax()])
    wide = share(low)
    evidence = [
        Evidence("share of steps after the decay", spent, min(wide.low, spent), max(wide.high, spent), most),
        exactly("step of the decay", first, most * record.step_count),
        exactly("highest learning rate", rate[highest], rate[highest]),
    ]
    evidence += _stepped_per_epoch(record)
    often = len(evidence) > 3 and evidence[3].value > 1
    severity: Severity = "error" if spent > 0.8 and run.fall < 0.5 else "warning"
    if any(event.data.get("class") == "ReduceLROnPlateau" for event in record.events("scheduler")):
        severity, often = "advice", False
    sure = 0.95 if often else 0.75 + 0.2 * (spent - most) / (1 - most)
    sure = 0.5 if severity == "advice" else sure  # what it waited for in vain is the better answer
    return Finding(
        ID, severity, round(sure, 3), ("group 0",), (first, record.step_count - 1), tuple(evidence)
    )


def _of_others(record: Record, steps: Steps) -> Values:
    """The rates of the other groups, each as a part of its highest: the largest of them at each step."""
    largest = np.zeros(len(steps))
    for where in record.wheres("hyper/lr"):
        at, rate = finite(*record.series("hyper/lr", where))
        if where != "group 0" and len(at) and rate.max() > 0:
            largest = np.fmax(largest, np.interp(steps, at, rate) / rate.max())
    return largest


def _stepped_per_epoch(record: Record) -> list[Evidence]:
    """How often the scheduler moved in one epoch, where capture could count it."""
    found = []
    for event in record.events("scheduler"):
        count = event.data.get("steps_per_epoch")
        if count:
            found.append(exactly("scheduler steps per epoch", float(count), 1.0))
    return found[-1:]
