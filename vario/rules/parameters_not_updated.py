"""Some parameters are never changed by the optimizer.

What it means: part of the model stays as it was initialised. Either it was forgotten when the optimizer
was built (an error), or its learning rate is zero or too small for its number format (a warning), or it
is frozen on purpose (`requires_grad=False`: only said, since fine-tuning does this).
How it is decided: an optimizer that never took a step although gradients were computed for it, twenty times
or more, changes nothing (an error: `optimizer.step()` is missing). Else from the list of parameters: those
that ask for a gradient but belong to no optimizer that steps and were not seen to change, also of another
whole model in train mode whose gradient changes from look to look (advice where the first backward gave them
none, as under `no_grad`; nothing where they are a part like another that is trained, name by name: a target
or teacher that follows by hand), and those that ask for none; and from the updates:
matrices whose change is exactly zero at every measured step after a gradient that is not. A gradient below a
millionth of the whole model's is the rounding of a zero: so it is for a bias before a BatchNorm, which has no
effect and rightly stays.
Not applicable: neither the list of parameters nor 5 readings of updates were recorded.
"""

from __future__ import annotations

import numpy as np

from vario.nouns import Evidence, Finding, NotApplicable, Severity
from vario.record import Record
from vario.rules._evidence import exactly, finite
from vario.rules._parameters import Parameter, parameters

ID = "parameters-not-updated"
ROUNDING = 1e-6  # of the norm of all gradients; single precision rounds at 1e-7
CARD = {
    "papers": (),
    "reads": ("update/norm", "gradient/norm"),
    "checked": "closed form: counts of parameters",
    "changed": "",
    "harm": True,
    "summary": "{parameters never updated} of {all parameters} parameters are never changed.",
}


def check(record: Record, *, readings: int = 5) -> Finding | None:
    """A finding naming the parameters that stay as they were initialised."""
    known = parameters(record)
    measured = [w for w in record.wheres("update/norm") if w and record.count("update/norm", w) >= readings]
    if not known and not measured:
        raise NotApplicable(
            f"no list of parameters, and no parameter with {readings} readings of update/norm"
        )
    if never := record.events("never_stepped"):
        return _never_stepped(known, float(never[-1].data.get("backwards", 0)))
    outside = [p for p in known if p.trainable and not (p.in_optimizer or p.elsewhere)]
    outside = [p for p in outside if p.has_gradient or not _is_a_copy(p, known)]
    forgotten = [p.name for p in outside if p.has_gradient]
    others = record.events("left_out")[-1:]  # the newest counts
    models = {name: int(np.prod(shape)) for e in others for name, shape in e.data["parameters"].items()}
    forgotten += models
    still = [w for w in measured if _still(record, w)]
    frozen = [p.name for p in known if not p.trainable]
    sizes = {p.name: p.size for p in known} | models
    total = sum(sizes.values()) or len(measured)
    choices: list[tuple[list[str], Severity, str, float]] = [
        (forgotten, "error", "in no optimizer", 0.95),
        (still, "warning", "in the optimizer but never changed", 0.9),
        ([p.name for p in outside], "advice", "in no optimizer, without a gradient", 0.9),
        (frozen, "advice", "frozen by requires_grad=False", 0.9),
    ]
    for names, severity, kind, sure in choices:
        if names:
            count = sum(sizes.get(name, 1) for name in names)
            evidence: list[Evidence] = [
                exactly("parameters never updated", count, 0),
                exactly("all parameters", total, total),
                *(exactly(kind, sizes.get(name, 1), 0, name) for name in names[:3]),
            ]
            return Finding(
                ID, severity, sure, tuple(names), (0, max(record.step_count - 1, 0)), tuple(evidence)
            )
    return None


def _never_stepped(known: list[Parameter], backwards: float) -> Finding:
    names = tuple(p.name for p in known if p.in_optimizer)
    evidence = (
        exactly("parameters never updated", sum(p.size for p in known), 0),
        exactly("all parameters", sum(p.size for p in known), np.nan),
        exactly("gradients without a step", backwards, 0),
    )
    return Finding(ID, "error", 0.95, names, (0, 0), evidence)


def _is_a_copy(parameter: Parameter, known: list[Parameter]) -> bool:
    """Whether the part of the model that holds it is the like of another part, which is trained."""
    parts: dict[str, dict[tuple[str, tuple[int, ...]], bool]] = {}
    for one in known:
        part, _, rest = one.name.partition(".")
        parts.setdefault(part, {})[rest, one.shape] = one.in_optimizer or one.elsewhere
    own = parameter.name.partition(".")[0]
    mine = parts.pop(own)
    alike = (other for other in parts.values() if mine.keys() <= other.keys())
    return not own.isdigit() and not any(mine.values()) and any(all(other.values()) for other in alike)


def _still(record: Record, where: str) -> bool:
    """Whether a parameter never moved although it had a gradient, and not the rounding of one."""
    if record.last("update/norm", where) != 0 or record.series("update/norm", where)[1].any():
        return False
    steps, gradient = finite(*record.series("gradient/norm", where))
    all_steps, whole = finite(*record.series("gradient/norm"))
    both = np.intersect1d(steps, all_steps)
    gradient, whole = gradient[np.isin(steps, both)], whole[np.isin(all_steps, both)]
    return bool((gradient > ROUNDING * whole).any())
