"""Units behind a tanh or sigmoid sit at its flat ends.

What it means: where a sigmoid is within 0.01 of 0 or 1, or a tanh above 0.99 in magnitude, its slope is
almost zero and the gradient that passes through it is lost. Gates and output units may do this on purpose.
How it is decided: for each tanh or sigmoid but that of the output layer, the share of values at the flat
ends over the last readings; the low end of its interval must pass 0.5.
Not applicable: no tanh or sigmoid within the model was read 5 times. Units inside a fused recurrent
layer cannot be seen.
"""

from __future__ import annotations

from vario.nouns import Finding, NotApplicable
from vario.record import Record
from vario.rules._evidence import Estimate, Steps, finite, first_step, level, tail
from vario.rules._examples import graded
from vario.rules._model import output_layer

ID = "saturated-activations"
CARD = {
    "papers": ("P316",),
    "reads": ("activation/saturation_share", "loss/train"),
    "checked": "closed form",
    "changed": "P316 is credited for the fixed points of tanh layers at initialisation; the limits are ours",
    "summary": "{share saturated} of the outputs of a layer sit at the flat ends of its tanh or "
    "sigmoid and pass almost no gradient.",
}


def check(
    record: Record,
    *,
    saturated: float = 0.5,  # more than half of the paths through the layer are shut
    readings: int = 5,
) -> Finding | None:
    """A finding where most outputs of a tanh or sigmoid are at its ends."""
    last_layer = output_layer(record)
    found: list[tuple[str, Estimate, Steps, int]] = []
    judged = most = 0
    for where in record.wheres("activation/saturation_share"):
        if last_layer is not None and where == last_layer:
            continue
        steps, values = finite(*record.series("activation/saturation_share", where))
        most = max(most, len(values))
        if len(values) < readings:
            continue
        judged += 1
        estimate = level(tail(values, at_least=readings))
        since = first_step(steps, values > saturated, lasting=readings)
        if estimate.low > saturated and since is not None:
            found.append((where, estimate, steps, since))
    if not judged:
        raise NotApplicable(f"{most} readings of a tanh or sigmoid within the model; {readings} are needed")
    if not found:
        return None
    found.sort(key=lambda item: -item[1].low)
    where, worst, steps, since = found[0]
    evidence = tuple(e.evidence("share saturated", saturated, w) for w, e, _, _ in found[:4])
    return Finding(
        ID,
        "warning",
        graded(worst.low, saturated, 0.95),
        tuple(w for w, _, _, _ in found),
        (since, int(steps[-1])),
        evidence,
    )
