"""Sum of all eigenvalues of the Hessian, and of its Gauss-Newton part, with 95 % intervals.

The Gauss-Newton part is what the loss's own curvature in the outputs makes; what the trace has beyond it
comes from how the network itself bends, and is often most of it early in training.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from vario.capture.moment import Moment
from vario.nouns import Reading

CARD = {
    "papers": (),
    "cost": "24 products with the Hessian, and 4 backwards with drawn labels; on demand",
    "checked": "equation: dense traces in float64; intervals cover in 200 repeats; closed form: least "
    "squares",
    "changed": "Hutch++ for the Hessian; labels drawn from the model for the Gauss-Newton part of a cross "
    "entropy, Hutch++ for other losses",
}


@dataclass(frozen=True)
class CurvatureTrace:
    """Silent about the Gauss-Newton part where the loss is not a known function of outputs."""

    name: str = "curvature-trace"
    needs: frozenset[str] = frozenset({"curvature_traces"})

    def read(self, moment: Moment) -> Iterator[Reading]:
        if "curvature_traces" not in moment:
            return
        found = moment["curvature_traces"]
        for name, estimate in (("trace", found.hessian), ("gauss_newton_trace", found.gauss_newton)):
            if estimate is not None:
                yield moment.reading(f"curvature/{name}", estimate.value)
                yield moment.reading(f"curvature/{name}_low", estimate.low)
                yield moment.reading(f"curvature/{name}_high", estimate.high)
