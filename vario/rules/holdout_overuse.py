"""The held-out set was looked at so often that its best figure flatters.

What it means: choosing the best of many evaluations on the same examples fits the choice to these examples.
A set that was not used for choosing tells how much of the figure is real.
How it is decided: two held-out loaders: one with 20 or more evaluations, and one with at most a tenth as
many. The best accuracy on the first less that on the second (nearest in time) must exceed 0.01 at the low
end of its interval. Advice, since a difference between the two sets looks the same.
Not applicable: fewer than two held-out loaders with accuracy, or none looked at 20 times and another seldom.
Looks in earlier runs cannot be seen.
"""

from __future__ import annotations

import numpy as np

from vario.nouns import Evidence, Finding, NotApplicable
from vario.record import Record
from vario.rules._evidence import exactly, finite
from vario.rules._examples import rate
from vario.rules._held_out import accuracy_at, is_seen

ID = "holdout-overuse"
CARD = {
    "papers": ("P032",),
    "reads": ("eval/accuracy", "eval/examples", "eval/seen_share"),
    "checked": "closed form",
    "changed": "P032 prevents overuse by answering with noise; the rule only compares a used set "
    "with a fresh one",
    "harm": True,
    "summary": "The best of {evaluations on one set} evaluations is better by {best accuracy less"
    " fresh accuracy:%} than the accuracy on a set that was seldom used.",
}


def check(
    record: Record,
    *,
    looks: int = 20,  # the best of 20 equal figures is about two standard errors too good
    seldom: float = 0.1,
    least: float = 0.01,
) -> Finding | None:
    """A finding where a much used held-out set is better than a fresh one."""
    uses = {
        where: len(finite(*record.series("eval/accuracy", where))[1])
        for where in record.wheres("eval/accuracy")
    }
    uses = {where: count for where, count in uses.items() if count and not is_seen(record, where)}
    if len(uses) < 2:
        known = "one held-out set has an accuracy" if uses else "no held-out set has an accuracy"
        raise NotApplicable(f"{known}; a used and a fresh one are needed")
    used = max(uses, key=lambda where: (uses[where], where))
    fresh = min(uses, key=lambda where: (uses[where], where))
    if uses[used] < looks or uses[fresh] > seldom * uses[used]:
        raise NotApplicable(
            f"one set was evaluated {uses[used]} times, another {uses[fresh]}; "
            f"{looks} times and a tenth of the first are needed"
        )
    steps, values = finite(*record.series("eval/accuracy", used))
    count = record.last("eval/examples", used)
    best = rate(float(values.max()), count if count >= 1 else 1)
    other = accuracy_at(record, fresh, np.inf)
    gap = best.value - other.value
    low = gap - float(np.hypot(best.value - best.low, other.high - other.value))
    high = gap + float(np.hypot(best.high - best.value, other.value - other.low))
    if low <= least:
        return None
    evidence = (
        Evidence("best accuracy less fresh accuracy", gap, low, high, least, used),
        exactly("evaluations on one set", uses[used], looks, used),
        other.evidence("accuracy on the fresh set", best.value - least, fresh),
    )
    return Finding(ID, "advice", 0.6, (used, fresh), (int(steps[0]), int(steps[-1])), evidence)
