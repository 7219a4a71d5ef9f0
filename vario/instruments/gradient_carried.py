"""Share of the step's gradient that lay there from before: how much was not cleared.

0 where gradients were cleared; about 1 and more where every step adds to all earlier ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from vario.capture.moment import Moment
from vario.nouns import Reading

CARD = {
    "papers": (),
    "cost": "shared with gradient-norm",
    "checked": "closed form: a constant gradient that is never cleared",
    "changed": "",
}


@dataclass(frozen=True)
class GradientCarried:
    """Norm found before the first backward over the norm at the step; silent where that is 0."""

    name: str = "gradient-carried"
    needs: frozenset[str] = frozenset({"carried", "gradient_norms"})

    def read(self, moment: Moment) -> Iterator[Reading]:
        if "carried" not in moment or "gradient_norms" not in moment:
            return
        norm, _ = moment["gradient_norms"][""]
        if norm > 0:
            yield moment.reading("gradient/carried", float(moment["carried"]) / norm)
