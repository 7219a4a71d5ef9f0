"""The examples pull in directions that cancel: the mean gradient is nothing, the single ones are not.

What it means: parts of the data, or several losses, contradict each other, so the model stands still
although every example asks for a change.
How it is decided: only in a run that fails. In the second half (at most 200 readings) the signal cannot
be told from zero (95 % interval over blocks), its high end is below a hundredth of the noise, and the
noise is not itself nothing: the root of the noise is above a millionth of the norm of the weights.
Not applicable: fewer than 8 readings of the gradient's noise and signal, or none of the norm of the
weights.
"""

from __future__ import annotations

import numpy as np

from vario.nouns import Finding
from vario.record import Record
from vario.rules._course import course
from vario.rules._evidence import exactly
from vario.rules._noise import noise_scale

ID = "gradient-conflict"
CARD = {
    "papers": ("P033",),
    "reads": ("gradient_noise/signal", "gradient_noise/noise", "weight/norm", "loss/train"),
    "checked": "closed form: Gaussian noise with and without a signal",
    "changed": "coherence is judged by the unbiased signal, not by the length of the mean",
    "summary": "The gradients of single examples cancel: the signal is {signal} beside a noise of {noise}.",
}


def check(record: Record, *, part: float = 0.01, nothing: float = 1e-6) -> Finding | None:
    """A finding where a failing run has large gradients of examples and no mean gradient."""
    found = noise_scale(record)
    _, weight = record.need("weight/norm", 1)
    run = course(record)
    alive = np.sqrt(max(found.noise.value, 0.0)) > nothing * weight[-1]
    if not run.failing or found.resolved or not alive or found.signal.high >= part * found.noise.value:
        return None
    evidence = (
        found.signal.evidence("signal", part * found.noise.value),
        found.noise.evidence("noise", (nothing * float(weight[-1])) ** 2),
        exactly("loss at the end", run.end.value, run.start.value),
    )
    return Finding(ID, "advice", 0.6, (), found.steps, evidence)
