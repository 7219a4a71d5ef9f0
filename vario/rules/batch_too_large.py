"""The batch is far larger than the gradient noise asks for.

What it means: the examples of a batch say the same thing. Smaller batches would reach the same loss with
fewer examples and no more steps.
How it is decided: mean noise over mean signal of the gradient (the noise scale) in the last half, at most 200
readings, with a 95 % interval over blocks. Fires when its high end lies below a quarter of the examples
of a step: more than four fifths of the examples then bring nothing.
Not applicable: fewer than 8 readings of noise and signal in the second half; a signal that cannot be told
from zero.
"""

from __future__ import annotations

from vario.nouns import Finding, NotApplicable
from vario.record import Record
from vario.rules._evidence import confidence, exactly
from vario.rules._noise import noise_scale

ID = "batch-too-large"
CARD = {
    "papers": ("P173", "P176"),
    "reads": ("gradient_noise/signal", "gradient_noise/noise", "batch/size"),
    "checked": "closed form: Gaussian signal and noise of known size",
    "changed": "an interval over blocks, and no verdict without a signal",
    "summary": "The noise scale is {noise scale} examples; a step uses {examples per step}.",
}


def check(record: Record, *, part: float = 0.25) -> Finding | None:
    """A finding where the noise scale is far below the batch."""
    found = noise_scale(record)
    if not found.resolved:
        raise NotApplicable(f"the gradient's signal ({found.signal.value:.3g}) cannot be told from zero")
    limit = part * found.batch
    if found.scale.high >= limit:
        return None
    evidence = (
        found.scale.evidence("noise scale", limit),
        exactly("examples per step", found.batch, found.scale.high / part),
    )
    sure = confidence(limit, max(found.scale.high, 1e-30), least=0.75)
    return Finding(ID, "advice", sure, (), found.steps, evidence)
