"""The loss, a gradient or a weight is not a finite number.

What it means: NaN or infinity has entered the computation. Once it is in the weights, every later step
is lost, however long the run goes on.
How it is decided: the first step at which ``loss/train``, a gradient, a weight or an update is NaN or
infinite, and how many of the steps from there on are broken. An error where the run does not recover
(the last reading is broken, or a weight is); a warning where single steps are broken and the run goes
on. Steps that a GradScaler skipped are no illness: that is how it looks for its scale. Where training is
sound, the same is asked of the loss of each evaluation: what eval mode computes, or for those rows, may break
alone. An error where the last one of a loader is broken.
Not applicable: no reading of the loss, of gradients or of weights.
"""

from __future__ import annotations

import numpy as np

from vario.nouns import Finding, NotApplicable, Severity
from vario.record import Record
from vario.rules._evidence import Mask, Steps, exactly

ID = "non-finite"
CARD = {
    "papers": (),
    "reads": (
        "loss/train",
        "gradient/norm",
        "gradient/non_finite",
        "weight/norm",
        "weight/non_finite",
        "update/norm",
        "eval/loss",
    ),
    "checked": "closed form",
    "changed": "",
    "harm": True,
    "summary": "The training turned non-finite at step {first broken step}; {broken share} of the"
    " steps from there on are broken; the loss of {evaluations without a finite loss:%} of the"
    " evaluations is no finite number.",
}
READS: tuple[str, ...] = CARD["reads"][:-1]  # type: ignore[index]


def check(
    record: Record,
    *,
    lasting: int = 0,  # broken weights that are still fine: none, since they never heal
) -> Finding | None:
    """A finding from the first step at which something is not a finite number."""
    series = {name: _broken(record, name) for name in READS}
    broken = {name: found for name, found in series.items() if len(found[0])}
    if not broken:
        raise NotApplicable("no reading of the loss, of gradients or of weights")
    ill = {name: steps[mask] for name, (steps, mask) in broken.items() if mask.any()}
    if not ill:
        return _in_evaluation(record)
    first = min(int(steps[0]) for steps in ill.values())
    last = max(int(steps[-1]) for steps in ill.values())
    name = min(ill, key=lambda n: (ill[n][0], READS.index(n)))
    after = [mask[steps >= first] for steps, mask in broken.values()]
    part = max(float(mask.mean()) for mask in after if len(mask))
    ended = any(bool(mask[-1]) for _, mask in broken.values())
    weights = sum(int(mask.sum()) for n, (_, mask) in broken.items() if n.startswith("weight")) > lasting
    evidence = [exactly("first broken step", first, np.nan, name), exactly("broken share", part, 0.0)]
    return Finding(
        ID,
        "error" if ended or weights else "warning",
        0.99 if ended or weights else 0.9,
        _places(record, first),
        (first, last),
        tuple(evidence),
    )


def _in_evaluation(record: Record) -> Finding | None:
    """A finding of the loader whose evaluations most often have no finite loss, though training is sound."""
    passes = {where: record.series("eval/loss", where) for where in record.wheres("eval/loss")}
    ill = {where: ~np.isfinite(values) for where, (_, values) in passes.items()}
    ill = {where: mask for where, mask in ill.items() if mask.any()}
    if not ill:
        return None
    where = max(ill, key=lambda w: (float(ill[w].mean()), w))
    steps, mask = passes[where][0][ill[where]], ill[where]
    share = exactly("evaluations without a finite loss", float(mask.mean()), 0.0, where)
    severity: Severity = "error" if mask[-1] else "warning"
    return Finding(ID, severity, 0.95, (where,), (int(steps[0]), int(steps[-1])), (share,))


def _broken(record: Record, name: str) -> tuple[Steps, Mask]:
    """Steps of a series of the whole model, and at which of them it is broken."""
    steps, values = record.series(name)
    broken = ~np.isfinite(values)
    if name.endswith("non_finite"):
        broken |= values > 0
    # A scaled loss may overflow in the attempt before the step that counts.
    skipped = [event.step for event in record.events("skipped_step")]
    return steps, broken & ~np.isin(steps, skipped)


def _places(record: Record, first: int) -> tuple[str, ...]:
    """The parameters that broke first: those whose gradient or weight is broken at the earliest step."""
    found: dict[str, int] = {}
    for name in ("gradient/non_finite", "weight/non_finite"):
        for where in record.wheres(name):
            steps, values = record.series(name, where)
            bad = steps[~np.isfinite(values) | (values > 0)]
            if where and len(bad):
                found[where] = min(int(bad[0]), found.get(where, int(bad[0])))
    earliest = min(found.values(), default=first)
    return tuple(where for where, step in found.items() if step == earliest)
