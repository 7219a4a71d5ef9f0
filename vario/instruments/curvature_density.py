"""How the Hessian's eigenvalues are spread: their deciles, and the share that is negative.

Most eigenvalues of a network lie near zero and a few stand far out; many negative ones say that the
weights are at a saddle. Ends are those of `curvature-top`; deciles are good to a few hundredths of shares.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from vario.capture.moment import Moment
from vario.nouns import Reading

CARD = {
    "papers": (),
    "cost": "96 products with the Hessian, each 1.5 to 3 steps; on demand",
    "checked": "closed form: matrices with known eigenvalues; equation: dense eigenvalues in float64",
    "changed": "stochastic Lanczos quadrature with 4 starts of 24 products; nodes are not smoothed",
}
TINY = 1e-4  # of the largest magnitude: nearer to zero than this is not told from it


@dataclass(frozen=True)
class CurvatureDensity:
    """Eleven deciles, 0 to 100 %; what is within 1e-4 of the largest magnitude of zero is not negative."""

    name: str = "curvature-density"
    needs: frozenset[str] = frozenset({"curvature_density"})

    def read(self, moment: Moment) -> Iterator[Reading]:
        if "curvature_density" not in moment:
            return
        found = moment["curvature_density"]
        yield moment.reading("curvature/deciles", found.quantiles(np.linspace(0.0, 1.0, 11)).tolist())
        zero = TINY * float(np.abs(found.nodes).max())
        yield moment.reading("curvature/negative_share", 1.0 - found.share_above(-zero))
