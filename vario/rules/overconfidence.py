"""The model is surer than it is right.

What it means: on held-out data the mean of the largest probability exceeds the share that is right, so the
probabilities cannot be taken at their word. One temperature, fitted on held-out data, often mends it;
classes that overlap need more than one.
How it is decided: mean confidence less accuracy at the last evaluation on held-out data; this gap is a lower
bound of the expected calibration error. The low end of its interval must pass 0.05; a warning from 0.2 on.
A run that fails has other worries, and what its model says is not judged.
Not applicable: no evaluation with both confidence and accuracy on held-out data, or fewer than 100 examples.
"""

from __future__ import annotations

from vario.nouns import Evidence, Finding, NotApplicable, Severity
from vario.record import Record
from vario.rules._course import is_failing
from vario.rules._evidence import finite
from vario.rules._examples import graded, rate
from vario.rules._held_out import passes

ID = "overconfidence"
CARD = {
    "papers": ("P074", "P100"),
    "reads": ("eval/confidence", "eval/accuracy", "eval/examples"),
    "checked": "closed form",
    "changed": "the papers measure calibration in bins; a run records only the means, whose gap "
    "bounds that error from below",
    "summary": "On held-out data the model is surer than it is right by {confidence less accuracy}: "
    "its mean confidence exceeds its accuracy.",
}


def check(
    record: Record,
    *,
    gap: float = 0.05,  # the calibration error of a usual, healthy network
    clear: float = 0.2,  # one answer in five is not as sure as it claims
    examples: int = 100,  # fewer leave an interval wider than the gap that is looked for
) -> Finding | None:
    """A finding where held-out confidence exceeds held-out accuracy."""
    where, steps, sure = passes(record, "eval/confidence")
    at, right = finite(*record.series("eval/accuracy", where))
    if not len(at) or at[-1] != steps[-1]:
        raise NotApplicable("the last evaluation has a confidence but no accuracy")
    count = record.last("eval/examples", where)
    if not count >= examples:
        raise NotApplicable(f"{count:.0f} held-out examples; {examples} are needed")
    accuracy = rate(float(right[-1]), count)
    value = float(sure[-1]) - accuracy.value
    low, high = float(sure[-1]) - accuracy.high, float(sure[-1]) - accuracy.low
    if low <= gap or is_failing(record):
        return None
    evidence = (
        Evidence("confidence less accuracy", value, low, high, gap, where),
        Evidence(
            "mean confidence", float(sure[-1]), float(sure[-1]), float(sure[-1]), accuracy.value + gap, where
        ),
        accuracy.evidence("held-out accuracy", float(sure[-1]) - gap, where),
    )
    severity: Severity = "warning" if low > clear else "advice"
    return Finding(ID, severity, graded(low, gap, clear), (), (int(steps[-1]), int(steps[-1])), evidence)
