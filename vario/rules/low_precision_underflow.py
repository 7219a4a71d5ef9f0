"""Numbers are too small for the 16-bit format that holds them.

What it means: in float16 a gradient below 6e-8 becomes zero and one below 6e-5 keeps only a few bits; in
16-bit weights a step smaller than about 1/500 (bfloat16) or 1/4000 (float16) of a weight is rounded away.
The run looks like one with a small learning rate or with no gradient at all.
How it is decided: (1) float16 without loss scaling: the share of gradient entries that are zero or below
6e-5 is above 0.5 over the last readings, none of them lies below 6e-8 (which only a wider format could
hold) and some lie between. (2) 16-bit weights with plain SGD: the length of the weights' change over
lr times the length of the gradient, which is 1 where nothing is lost, is below 0.8 (0.64 of its square).
(3) 16-bit weights with any optimizer: of more than a tenth of the parameters the usual step changes not one
entry, although they have a gradient (scales of norms, which start at 1, are the first).
Not applicable: the formats of the parameters are unknown; 16-bit formats are in use and fewer than 5
readings of the gradient exist. A run wholly in 32 bits is checked and has no finding.
"""

from __future__ import annotations

import numpy as np

from vario.nouns import Evidence, Finding, NotApplicable
from vario.record import Record
from vario.rules._course import is_failing
from vario.rules._evidence import exactly, finite, level, tail
from vario.rules._examples import graded

ID = "low-precision-underflow"
CARD = {
    "papers": ("P005",),
    "reads": (
        "gradient/log_histogram",
        "gradient/zero_share",
        "gradient/norm",
        "update/norm",
        "hyper/lr",
        "hyper/momentum",
    ),
    "checked": "closed form",
    "changed": "P005 is credited for the setting (16- and 4-bit training); the limits are those "
    "of IEEE float16 and of bfloat16.",
    "summary": "Sixteen bits are too few; {share of gradient lost} of the gradient entries are lost to "
    "rounding; {share of update lost} of each update is; the usual step changes no entry of "
    "{share of parameters that no step changes} of the parameters.",
}
# Half-decades from 1e-24: bin 33 starts at 3.2e-8, below the smallest float16 (6.0e-8); bin 40 at 1e-4.
SMALLEST, NORMAL = 33, 39


def check(
    record: Record,
    *,
    lost: float = 0.5,  # where more is rounded away, the direction is no longer that of the gradient
    still: float = 0.1,  # of the parameters; in 32 bits there is none
    shortened: float = 0.2,  # over a third of the squared length of the update is gone: 1 - 0.8^2
    readings: int = 5,
) -> Finding | None:
    """A finding where 16 bits lose most of the gradient or of the update."""
    weights, computed = _formats(record)
    if not weights and not computed:
        raise NotApplicable("the number formats of parameters and autocast are unknown")
    if not {"float16", "bfloat16"} & (weights | computed):
        return None
    evidence: list[Evidence] = []
    if "float16" in weights | computed:
        evidence += _gradient_loss(record, lost, readings)
    if weights & {"float16", "bfloat16"}:
        evidence += _update_loss(record, shortened, readings) + _unmoved(record, still, readings)
    if not evidence:
        raise NotApplicable(f"fewer than {readings} readings of gradients in 16 bits")
    worst = max(evidence, key=lambda e: e.low - e.limit)
    if not worst.low > worst.limit:
        return None
    steps = record.series("gradient/norm")[0]
    failing = is_failing(record)  # a short run is not known to fail
    span = (int(steps[0]), int(steps[-1])) if len(steps) else (0, max(record.step_count - 1, 0))
    return Finding(
        ID,
        "warning" if failing else "advice",
        graded(worst.low, worst.limit, 0.95),
        (),
        span,
        tuple(evidence),
    )


def _formats(record: Record) -> tuple[set[str], set[str]]:
    """The formats of the parameters, and those that autocast computes in."""
    weights: set[str] = set()
    for event in record.events("parameters"):
        rows = event.data.get("parameters", event.data) if isinstance(event.data, dict) else event.data
        weights |= {str(row["dtype"]).replace("torch.", "") for row in rows if isinstance(row, dict)}
    computed = {
        str(event.data.get("dtype", "")).replace("torch.", "")
        for event in record.events("autocast")
        if isinstance(event.data, dict)
    }
    return weights, computed


def _gradient_loss(record: Record, lost: float, readings: int) -> list[Evidence]:
    """Share of entries that float16 dropped or holds in a few bits; nothing where the loss was scaled."""
    steps, counts = record.series("gradient/log_histogram")
    zero_steps, zeros = finite(*record.series("gradient/zero_share"))
    both, a, b = np.intersect1d(steps, zero_steps, return_indices=True)
    if len(both) < readings or counts.ndim != 2:
        return []
    counts, zeros = counts[a], zeros[b]
    total = counts.sum(axis=1)
    below, subnormal = counts[:, :SMALLEST].sum(axis=1), counts[:, SMALLEST:NORMAL].sum(axis=1)
    if tail(below, at_least=readings).sum() > 0 or not tail(subnormal, at_least=readings).sum() > 0:
        return []
    part = zeros + (1 - zeros) * subnormal / np.maximum(total, 1)
    return [level(tail(part, at_least=readings)).evidence("share of gradient lost", lost)]


def _unmoved(record: Record, limit: float, readings: int) -> list[Evidence]:
    """The share of the parameters with a gradient that the usual step does not change at all."""
    still: list[bool] = []
    for where in record.wheres("gradient/norm"):
        gradient = finite(*record.series("gradient/norm", where))[1]
        change = finite(*record.series("update/norm", where))[1]
        if where and len(change) >= readings and len(gradient) >= readings and np.median(gradient) > 0:
            still.append(float(np.median(tail(change, at_least=readings))) == 0)
    if not any(still):
        return []
    return [exactly("share of parameters that no step changes", float(np.mean(still)), limit)]


def _update_loss(record: Record, lost: float, readings: int) -> list[Evidence]:
    """Share of a plain SGD step that 16-bit weights did not take."""
    classes = {str(e.data.get("class", "")) for e in record.events("optimizer") if isinstance(e.data, dict)}
    groups = record.wheres("hyper/lr")
    momentum = [record.last("hyper/momentum", where) for where in groups]
    if classes != {"SGD"} or len(groups) != 1 or any(m > 0 for m in momentum):
        return []
    lr_steps, rates = finite(*record.series("hyper/lr", groups[0]))
    steps, change = finite(*record.series("update/norm"))
    grad_steps, length = finite(*record.series("gradient/norm"))
    both, a, b = np.intersect1d(steps, grad_steps, return_indices=True)
    if len(both) < readings or not len(lr_steps):
        return []
    rate = rates[np.clip(np.searchsorted(lr_steps, both, side="right") - 1, 0, None)]
    nominal = rate * length[b]
    part = 1 - change[a][nominal > 0] / nominal[nominal > 0]
    if len(part) < readings:
        return []
    return [level(tail(part, at_least=readings)).evidence("share of update lost", lost)]
