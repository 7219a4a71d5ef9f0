"""Norm of the gradient of each parameter and of the whole model, and how many entries are not finite.

The gradient is the one that the optimizer is given: unscaled, after clipping.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from vario.capture.moment import Moment
from vario.nouns import Reading

CARD = {
    "papers": (),
    "cost": "one read of the gradients",
    "checked": "equation: numpy in float64",
    "changed": "entries whose squares leave single precision are measured again in double",
}


@dataclass(frozen=True)
class GradientNorm:
    """Euclidean norms; parameters without a gradient are silent."""

    name: str = "gradient-norm"
    needs: frozenset[str] = frozenset({"gradient_norms"})

    def read(self, moment: Moment) -> Iterator[Reading]:
        if "gradient_norms" not in moment:
            return
        for where, (norm, non_finite) in moment["gradient_norms"].items():
            yield moment.reading("gradient/norm", norm, where)
            yield moment.reading("gradient/non_finite", non_finite, where)
