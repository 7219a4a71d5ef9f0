"""Second derivative of the loss along the gradient, and along the step that the optimizer took last.

Along the step it says how sharp the valley is in the direction in which training moves, which is often
far less than the sharpest direction; where it exceeds 2 over the rate, the steps overshoot.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from vario.capture.moment import Moment
from vario.nouns import Reading

CARD = {
    "papers": (),
    "cost": "two products with the Hessian and a copy of the weights; on demand",
    "checked": "equation: u'Hu in float64; closed form: a quadratic bowl",
    "changed": "the Hessian is that of the weights after the last step, at the batch of the present one",
}


@dataclass(frozen=True)
class CurvatureStep:
    """Silent for a direction that is not there: no step before, or a gradient of zero."""

    name: str = "curvature-step"
    needs: frozenset[str] = frozenset({"curvature_slopes"})

    def read(self, moment: Moment) -> Iterator[Reading]:
        if "curvature_slopes" not in moment:
            return
        found = moment["curvature_slopes"]
        if found.gradient is not None:
            yield moment.reading("curvature/along_gradient", found.gradient)
        if found.step is not None:
            yield moment.reading("curvature/along_step", found.step)
