"""The batch is small against the gradient noise.

What it means: most of each step is noise. A larger batch (or accumulation, or averaging of weights) would
reach the same loss in far fewer steps; it costs more examples in all, so this is worth it where devices
stand idle.
How it is decided: mean noise over mean signal of the gradient (the noise scale) in the last half, at most 200
readings, with a 95 % interval over blocks. Fires when its low end exceeds ten times the examples of a
step: eleven times as many steps are then taken as with very large batches. Only while the signal itself
is above zero.
Not applicable: fewer than 8 readings of noise and signal in the second half; a signal that cannot be told
from zero.
"""

from __future__ import annotations

import numpy as np

from vario.nouns import Finding, NotApplicable
from vario.record import Record
from vario.rules._evidence import confidence, exactly
from vario.rules._noise import noise_scale

ID = "batch-too-small"
CARD = {
    "papers": ("P173", "P176"),
    "reads": ("gradient_noise/signal", "gradient_noise/noise", "batch/size"),
    "checked": "closed form: Gaussian signal and noise of known size",
    "changed": "an interval over blocks, and no verdict without a signal",
    "summary": "The noise scale is {noise scale} examples; a step uses {examples per step}.",
}


def check(record: Record, *, times: float = 10.0) -> Finding | None:
    """A finding where the noise scale is far above the batch."""
    found = noise_scale(record)
    if not found.resolved:
        raise NotApplicable(f"the gradient's signal ({found.signal.value:.3g}) cannot be told from zero")
    limit = times * found.batch
    if found.scale.low <= limit:
        return None
    evidence = (
        found.scale.evidence("noise scale", limit),
        exactly("examples per step", found.batch, found.scale.low),
    )
    sure = confidence(found.scale.low, limit, least=0.75)
    return Finding(ID, "advice", sure if np.isfinite(sure) else 0.75, (), found.steps, evidence)
