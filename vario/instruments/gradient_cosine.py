"""Cosine between the gradient of this step and that of the step before it.

Near 1 the steps agree; well below 0 they undo one another, as when the learning rate is too high.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from vario.capture.moment import Moment
from vario.nouns import Reading

CARD = {
    "papers": (),
    "cost": "a copy of the gradients and three reads",
    "checked": "equation: numpy in float64",
    "changed": "",
}


@dataclass(frozen=True)
class GradientCosine:
    """Silent where a gradient is missing, zero, sparse or not finite in either of the two steps."""

    name: str = "gradient-cosine"
    needs: frozenset[str] = frozenset({"gradient_cosines"})

    def read(self, moment: Moment) -> Iterator[Reading]:
        if "gradient_cosines" in moment:
            for where, cosine in moment["gradient_cosines"].items():
                yield moment.reading("gradient/cosine", cosine, where)
