"""Inputs come in raw units, far from mean 0 and spread 1.

What it means: initialisers and usual learning rates assume inputs of about unit size. Raw pixels of
0 to 255, or features whose units differ a thousandfold, stretch the loss surface: one learning rate is
too large for some weights and too small for others. Standardise each feature on the training set.
How it is decided: the typical magnitude of the inputs (root of mean^2 + std^2, median of the readings)
is above 30, or below a thousandth in a run that fails (beside biases of usual size nothing is left of them);
or one feature spreads more than 1,000 times as much as another while the largest value is above 30. Not
raised where the model normalises first (a normalisation layer at its start, or first outputs that stay
small).
Not applicable: no floating inputs were seen; indices of tokens or categories have no scale.
"""

from __future__ import annotations

import numpy as np

from vario.nouns import Finding, NotApplicable
from vario.record import Record
from vario.rules._course import is_failing
from vario.rules._evidence import Estimate, Floats, finite, level
from vario.rules._examples import graded
from vario.rules._model import layers, normalized_first

ID = "unnormalized-inputs"
CARD = {
    "papers": ("P321",),
    "reads": (
        "input/mean",
        "input/std",
        "input/largest",
        "input/smallest",
        "input/feature_spread",
        "activation/std",
        "loss/train",
    ),
    "checked": "closed form",
    "changed": "P321 is credited for the reason (inputs of fixed mean and spread); it gives no "
    "limit for raw data",
    "summary": "Inputs have a typical magnitude of {input magnitude}, the largest {largest "
    "input}; about 1 is expected.",
}


def check(
    record: Record,
    *,
    magnitude: float = 30.0,  # raw pixels have 70 to 130, standardised features 1, unit intervals less
    spread: float = 1e3,  # condition number 1e6 of the inputs, more than any one learning rate serves
    lost: float = 1e-3,  # weights and biases of a layer begin alike, so that it is this beside a bias
    readings: int = 3,
    inside: float = 10.0,  # a first layer whose outputs stay below it divides its inputs itself
) -> Finding | None:
    """A finding where the model is given inputs in raw units."""
    means = finite(*record.need("input/mean", readings))[1]
    stds = finite(*record.need("input/std", readings))[1]
    if min(len(means), len(stds)) < readings:
        raise NotApplicable(f"fewer than {readings} finite readings of the inputs")
    steps = record.series("input/std")[0]
    size = level(np.hypot(*_shortest(means, stds)))
    largest = _magnitude(record)
    apart = level(finite(*record.series("input/feature_spread"))[1])
    evidence = [size.evidence("input magnitude", magnitude), largest.evidence("largest input", magnitude)]
    beyond = size.low / magnitude
    if apart.low > spread and largest.low > magnitude:
        evidence.append(apart.evidence("spread between features", spread))
        beyond = max(beyond, apart.low / spread)
    small = 0 < size.high < lost and is_failing(record)
    if small:
        evidence, beyond = (
            [size.evidence("input magnitude", lost), largest.evidence("largest input", lost)],
            lost / size.high,
        )
    if not beyond > 1 or normalized_first(record) or (not small and _small_inside(record, inside)):
        return None
    sure = graded(float(np.log(beyond)), 0.0, 2.3, least=0.7)
    span = (int(steps[0]), int(steps[-1]))
    return Finding(ID, "warning", sure, (), span, tuple(evidence))


def _shortest(a: Floats, b: Floats) -> tuple[Floats, Floats]:
    count = min(len(a), len(b))
    return a[:count], b[:count]


def _magnitude(record: Record) -> Estimate:
    """The largest magnitude of a usual batch."""
    ends = [np.abs(finite(*record.series(f"input/{name}"))[1]) for name in ("largest", "smallest")]
    return level(np.maximum(*_shortest(*ends)))


def _small_inside(record: Record, inside: float) -> bool:
    """Whether the outputs of the first layer start small, so that the model scales its inputs."""
    wheres = record.wheres("activation/std")
    order = [name for name in layers(record) if name in wheres]
    if not order:
        return False
    if order[0] in record.wheres("activation/saturation_share"):
        return False  # outputs of a tanh or sigmoid are small whatever comes in
    values = finite(*record.series("activation/std", order[0]))[1]
    return bool(len(values)) and 0 < float(values[0]) < inside
