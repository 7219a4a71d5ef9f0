"""Mean, standard deviation, largest magnitude and share of exact zeros of the entries of the gradient.

Of each parameter, and of all of them together as if they were one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from vario.capture.moment import Moment
from vario.nouns import Reading

CARD = {
    "papers": (),
    "cost": "four reads of the gradients, cached piece by piece",
    "checked": "equation: numpy in float64",
    "changed": "the standard deviation is over n; entries that a sparse gradient does not store are zeros",
}


@dataclass(frozen=True)
class GradientStatistics:
    """Not a number where the gradient is not; parameters without a gradient are silent."""

    name: str = "gradient-statistics"
    needs: frozenset[str] = frozenset({"gradient_statistics"})

    def read(self, moment: Moment) -> Iterator[Reading]:
        if "gradient_statistics" not in moment:
            return
        for where, found in moment["gradient_statistics"].items():
            yield moment.reading("gradient/mean", found.mean, where)
            yield moment.reading("gradient/std", found.std, where)
            yield moment.reading("gradient/largest", found.largest, where)
            yield moment.reading("gradient/zero_share", found.zero_share, where)
