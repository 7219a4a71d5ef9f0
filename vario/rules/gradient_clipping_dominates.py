"""Clipping decides the size of nearly every step.

What it means: the limit lies far below the usual gradient, so that each step has the same length whatever
the gradient says. With plain SGD this acts as a smaller learning rate; with Adam it changes little, but
it hides the size of the gradient from the optimizer's memory.
How it is decided: after the first tenth of the run, more than 90 % of the steps are clipped (lower end of
the interval), and the median step keeps less than a fifth of its gradient. It is a warning where the loss
is still falling slowly or not at all with an optimizer without its own scaling, and advice otherwise.
Not applicable: no clipping was seen, or fewer than 20 readings of it.
"""

from __future__ import annotations

from vario.nouns import Evidence, Finding, Severity
from vario.record import Record
from vario.rules._course import course
from vario.rules._evidence import level, need_finite, share
from vario.rules._parameters import is_scaled

ID = "gradient-clipping-dominates"
CARD = {
    "papers": ("P005",),
    "reads": ("clipping/factor", "clipping/norm_before", "loss/train"),
    "checked": "closed form: constant factors",
    "changed": "",
    "summary": "{share of steps that were clipped} of the steps were clipped; the typical one "
    "kept {clipping factor} of its "
    "gradient.",
}


def check(
    record: Record,
    *,
    often: float = 0.9,
    kept: float = 0.2,  # clipping by half is common in good recipes for language models
    slow: float = 0.5,  # share of the loss of a guess that a run which is not slow has lost
) -> Finding | None:
    """A finding where clipping acts on nearly every step and leaves little of it."""
    steps, factor = need_finite(*record.need("clipping/factor", 20), 20, "clipping/factor")
    later = slice(len(factor) // 10, None)
    clipped, typical = share(factor[later] < 1.0), level(factor[later])
    if clipped.low <= often or typical.high >= kept:
        return None
    evidence: list[Evidence] = [
        clipped.evidence("share of steps that were clipped", often),
        typical.evidence("clipping factor", kept),
    ]
    before = record.series("clipping/norm_before")[1]
    if len(before):
        evidence.append(level(before).evidence("gradient norm before clipping", float("inf")))
    run = course(record)
    slow_run = run.failing or run.won < slow
    severity: Severity = "warning" if slow_run and not is_scaled(record) else "advice"
    return Finding(ID, severity, 0.9, (), (int(steps[later][0]), int(steps[-1])), tuple(evidence))
