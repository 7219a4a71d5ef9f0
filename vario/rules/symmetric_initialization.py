"""All units of a layer are equal, and stay equal.

What it means: rows of a weight that start equal get equal gradients, so a layer of a hundred units works
as one. It happens when weights are set to zero or to a constant; random values break the symmetry.
How it is decided: ``weight/row_difference`` of a layer (largest difference between two of its rows, over
its largest magnitude) is below 1e-6 at the first and at the last reading, three or more of them, while
the model as a whole is being updated. Where rounding broke the symmetry later, it must have held for
three readings and ten steps from the start, which are lost: advice if the run learned afterwards. So it
is where random biases break it at once but every matrix, of two or more, began with rows that differ by
less than a tenth. Two matrices or more that are zero at every reading keep one another there, each as the
other lets no gradient through. Layers that start at zero on purpose (the second half of an adapter, the
end of a residual branch, the head) differ after one step and are not meant.
Not applicable: fewer than 3 readings, or no update of any weight, without which symmetry cannot break.
"""

from __future__ import annotations

import numpy as np

from vario.nouns import Finding, NotApplicable, Severity
from vario.record import Record
from vario.rules._course import is_failing
from vario.rules._evidence import Floats, Mask, Steps, exactly, finite
from vario.rules._model import rows
from vario.rules._parameters import parameters

ID = "symmetric-initialization"
CARD = {
    "papers": (),
    "reads": ("weight/row_difference", "weight/norm", "update/norm", "gradient/norm", "loss/train"),
    "checked": "closed form",
    "changed": "",
    "summary": "The rows of {layers alike} weights are equal to within {row difference} and stay "
    "so: each such layer works as a single unit.",
}


def check(
    record: Record,
    *,
    difference: float = 1e-6,  # a few roundings of float32; random rows differ by about 1
    readings: int = 3,
    lasting: int = 10,  # steps; what starts at zero on purpose differs after one
    nearly: float = 0.1,  # after the first step; what is asked of all matrices, none of which is random
) -> Finding | None:
    """A finding where the rows of a trained weight start alike and stay alike."""
    wheres = record.wheres("weight/row_difference")
    found = {where: finite(*record.series("weight/row_difference", where)) for where in wheres}
    found |= _at_zero(record)
    most = max((len(values) for _, values in found.values()), default=0)
    if most < readings:
        raise NotApplicable(f"{most} readings of weight/row_difference; {readings} are needed")
    updates = finite(*record.series("update/norm"))[1]
    if len(updates) and not updates.max() > 0:
        raise NotApplicable("no weight was updated, and without updates symmetry cannot break")
    frozen = {str(p["name"]) for p in rows(record, "parameters") if p.get("trainable") is False}
    alike = {
        where: (steps, values)
        for where, (steps, values) in found.items()
        if where not in frozen
        and len(values) >= readings
        and (
            max(values[0], values[-1], np.median(values)) < difference
            or _held(steps, values < difference, readings, lasting)
        )
    }
    if not alike:
        alike = _all_began_alike(found, frozen, nearly)
        difference = nearly
    if not alike:
        return None
    broken = all(values[-1] >= difference for _, values in alike.values())
    worst = max(float(values[values < difference].max()) for _, values in alike.values())
    evidence = (exactly("layers alike", len(alike), 0), exactly("row difference", worst, difference))
    failing = is_failing(record, unknown=True)  # too short to tell; the symmetry itself is certain
    steps = np.concatenate([steps for steps, _ in alike.values()])
    span = (int(steps.min()), int(steps.max()))
    severity: Severity = "error" if failing else "advice" if broken else "warning"
    return Finding(ID, severity, 0.95, tuple(alike), span, evidence)


def _at_zero(record: Record) -> dict[str, tuple[Steps, Floats]]:
    """The trained matrices that never left zero, where there are two or more: their rows do not differ."""
    trained = [p.name for p in parameters(record) if p.is_matrix and p.trainable and p.in_optimizer]
    norms = {name: finite(*record.series("weight/norm", name)) for name in trained}
    zero = {name: item for name, item in norms.items() if len(item[1]) and not item[1].any()}
    return zero if len(zero) > 1 else {}


def _held(steps: Steps, alike: Mask, readings: int, lasting: int) -> bool:
    """Whether the rows stayed alike from the first reading on for that many readings and steps."""
    count = len(alike) if alike.all() else int(alike.argmin())
    return count >= readings and int(steps[count - 1] - steps[0]) >= lasting


def _all_began_alike(
    found: dict[str, tuple[Steps, Floats]], frozen: set[str], nearly: float
) -> dict[str, tuple[Steps, Floats]]:
    """All matrices, where each of them began with rows that were nearly the same and none is at zero."""
    trained = {where: item for where, item in found.items() if where not in frozen and len(item[1])}
    first = [(int(steps[0]), float(values[0])) for steps, values in trained.values()]
    return trained if len(first) > 1 and all(at == 0 and v < nearly for at, v in first) else {}
