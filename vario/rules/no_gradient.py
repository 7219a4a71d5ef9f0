"""Parameters in the optimizer get no gradient, or one that is exactly zero.

What it means: the loss does not depend on them as computed: they are unused, cut off by `detach()` or
`no_grad()`, or everything between them and the loss has been switched off (dead units, an exact zero
loss).
How it is decided: for each parameter in the optimizer that asks for a gradient: none was ever there
although others were measured, or it was exactly zero at all of its last readings (a fifth of them, at
least 5). Where no parameter ever had one, no norm could be read at all: then updates that were read and were
exactly zero each time say the same, as when the optimizer was made for another copy of the model. Where this
holds for most entries of the model and the run fails, it is an error; a warning where it fails otherwise, and
where a part of more than 1 % of the entries got no gradient from the first step on and reaches down to the
first parameter: what lies below a cut is silent too. A side branch of a run that learns is advice: parts that
are kept but not asked (the pooler of a BERT whose tokens are classified) look so, and cost memory only.
Biases alone whose gradients are there and zero are none: they cancel, as in the distance of two outputs.
Not applicable: fewer than 5 readings of the gradient's norm, and of updates.
"""

from __future__ import annotations

import numpy as np

from vario.nouns import Evidence, Finding, Severity
from vario.record import Record
from vario.rules._course import course
from vario.rules._evidence import exactly
from vario.rules._parameters import parameters

ID = "no-gradient"
CARD = {
    "papers": (),
    "reads": ("gradient/norm", "update/norm", "loss/train"),
    "checked": "closed form: counts of parameters",
    "changed": "",
    "harm": True,
    "summary": "{parameters without gradient} of {all parameters} parameters get no gradient.",
}


def check(
    record: Record,
    *,
    readings: int = 5,
    small: float = 0.01,  # share of the entries below which an unused part costs little
) -> Finding | None:
    """A finding naming the parameters that the loss does not reach."""
    if not _idle(record, readings):
        record.need("gradient/norm", readings)
    steps = record.series("gradient/norm")[0]
    sizes = {p.name: p.size for p in parameters(record) if p.trainable and p.in_optimizer}
    if not sizes:
        sizes = {where: 1 for where in record.wheres("gradient/norm") if where}
    measured = set(record.wheres("gradient/norm"))
    absent = [name for name in sizes if name not in measured]
    since = {
        name: at
        for name in sizes
        if name in measured and (at := _zero_since(record, name, readings)) is not None
    }
    names = [name for name in sizes if name in absent or name in since]
    if not names:
        return None
    failing = course(record, count=readings).failing
    flat = {p.name for p in parameters(record) if not p.is_matrix}
    if not failing and not absent and flat.issuperset(names):
        return None
    total = sum(sizes.values())
    without = sum(sizes[name] for name in names)
    evidence: list[Evidence] = [
        exactly("parameters without gradient", without, 0),
        exactly("all parameters", total, total),
        *(
            exactly("gradient is zero since step", since[name], 0, name)
            for name in names[:3]
            if name in since
        ),
    ]
    always = [name for name in names if name in absent or since[name] <= steps[0]]
    severity: Severity = "advice"
    if failing and without > 0.5 * total:
        severity = "error"
    elif failing or (next(iter(sizes)) in always and sum(sizes[name] for name in always) > small * total):
        severity = "warning"  # sizes are in the order of the model: the input's side comes first
    first = min((since.get(name, 0) for name in names), default=0)
    return Finding(ID, severity, 0.9, tuple(names), (int(first), record.step_count - 1), tuple(evidence))


def _idle(record: Record, readings: int) -> bool:
    """Whether no gradient was ever there to be read, and no update changed anything."""
    updates = record.series("update/norm")[1]
    return not len(record.series("gradient/norm")[0]) and len(updates) >= readings and not updates.any()


def _zero_since(record: Record, where: str, readings: int) -> int | None:
    """The step since which the gradient is exactly zero, None where it is not."""
    if record.last("gradient/norm", where) != 0:  # nearly always, and known without reading the rest
        return None
    steps, values = record.series("gradient/norm", where)
    last = max(readings, len(values) // 5)
    if len(values) < readings or (values[-last:] != 0).any():
        return None
    moving = np.flatnonzero(values != 0)
    return int(steps[moving[-1] + 1]) if len(moving) else int(steps[0])
