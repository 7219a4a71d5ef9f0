"""The present learning rate over the largest stable one, and that rate, for the optimizer in use.

A share above 1 says that the quadratic bowl around the weights is too sharp for the rate; training then
hops at the edge (shares near 1, for long) or diverges. Adam's share counts what it divides by.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from vario.capture.moment import Moment
from vario.nouns import Reading

CARD = {
    "papers": ("P017",),
    "cost": "5 to 40 products with the Hessian, each 1.5 to 3 steps; on demand",
    "checked": "closed form: descent on a quadratic bowl is stable at 0.98 and not at 1.02 of the rate (SGD, "
    "momentum, dampening, Nesterov, weight decay; Adam with its divisors held)",
    "changed": "the batch's curvature, not the population's; decoupled weight decay is left out",
}


@dataclass(frozen=True)
class LargestRate:
    """SGD, Adam, AdamW, RMSprop, Adagrad; for others the reason is among the events."""

    name: str = "largest-rate"
    needs: frozenset[str] = frozenset({"curvature_limit"})

    def read(self, moment: Moment) -> Iterator[Reading]:
        if "curvature_limit" not in moment:
            return
        found = moment["curvature_limit"]
        yield moment.reading("curvature/rate_share", found.share)
        yield moment.reading("curvature/rate_share_high", found.share_high)
        for group, rate in enumerate(found.rates):
            if math.isfinite(rate):  # a loss that curves downward everywhere has no largest rate
                yield moment.reading("curvature/largest_rate", rate, f"group {group}")
