"""The largest and the smallest eigenvalue of the loss's Hessian, at the batch of the step.

Along the first the loss bends most: plain descent with a rate above 2 over it leaves the bowl. A negative
smallest one says that the weights are not in a bowl. Each lies between the value and its ``_high`` or
``_low``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from vario.capture.moment import Moment
from vario.nouns import Reading

CARD = {
    "papers": (),
    "cost": "about 15 to 30 products with the Hessian, each 1.5 to 3 steps; on demand",
    "checked": "equation: dense eigenvalues in float64; closed form: least squares, linear networks, noisy "
    "quadratic",
    "changed": "Lanczos stops when its error near the end is 1 %; the bound given is its residual",
}


@dataclass(frozen=True)
class CurvatureTop:
    """Of one batch, at the weights before the step; noise of the batch adds to the largest one."""

    name: str = "curvature-top"
    needs: frozenset[str] = frozenset({"curvature_ends"})

    def read(self, moment: Moment) -> Iterator[Reading]:
        if "curvature_ends" not in moment:
            return
        found = moment["curvature_ends"]
        yield moment.reading("curvature/top", found.top)
        yield moment.reading("curvature/top_high", found.top_high)
        yield moment.reading("curvature/bottom", found.bottom)
        yield moment.reading("curvature/bottom_low", found.bottom_low)
