"""Adversarial training with one step has lost its robustness at a stroke.

What it means: the model has bent its loss around the single-step attack, so that the attack fails while a
stronger one always succeeds. It happens within a few hundred steps and does not heal.
How it is decided: abnormal adversarial examples are those whose loss is lower after the attack than before;
healthy runs have next to none. The low end of their share over the last readings must pass 0.1. Where the
accuracy under a multi-step attack was recorded too, it must be below half of its best.
Not applicable: no share of abnormal adversarial examples (``adversarial/abnormal_share``) was recorded: it is
where a step takes one of torch's losses of the same labels twice, first with a gradient for the inputs.
Ordinary training, without attacks, cannot have this illness.
"""

from __future__ import annotations

from vario.nouns import Finding
from vario.record import Record
from vario.rules._evidence import exactly, finite, first_step, level, need_finite, tail
from vario.rules._examples import graded

ID = "catastrophic-overfitting"
CARD = {
    "papers": ("P069",),
    "reads": ("adversarial/abnormal_share", "adversarial/multi_step_accuracy"),
    "checked": "equation",
    "changed": "P069 penalises these examples; the limit of 0.1 is between its healthy runs "
    "(below 0.002) and its lost ones (0.16 and more)",
    "harm": True,
    "summary": "{share of abnormal examples} of the attacked examples have a lower loss than "
    "before the attack: the single step no longer attacks.",
}


def check(
    record: Record,
    *,
    abnormal: float = 0.1,
    kept: float = 0.5,  # of the best robust accuracy: a slow decline is robust overfitting, another matter
    readings: int = 5,
) -> Finding | None:
    """A finding where the attack of training has stopped attacking."""
    steps, shares = need_finite(
        *record.need("adversarial/abnormal_share", readings), readings, "adversarial/abnormal_share"
    )
    now = level(tail(shares, at_least=readings))
    if now.low <= abnormal:
        return None
    evidence = [now.evidence("share of abnormal examples", abnormal)]
    robust = finite(*record.series("adversarial/multi_step_accuracy"))[1]
    if len(robust):
        if robust[-1] >= kept * robust.max():
            return None
        evidence.append(
            exactly("accuracy under a multi-step attack", float(robust[-1]), kept * float(robust.max()))
        )
    since = first_step(steps, shares > abnormal, lasting=min(3, len(shares)))
    span = (int(steps[0]) if since is None else since, int(steps[-1]))
    sure = graded(now.low, abnormal, 0.4, least=0.7 if len(evidence) == 1 else 0.85)
    return Finding(ID, "error", sure, (), span, tuple(evidence))
