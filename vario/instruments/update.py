"""How far the step moved the weights, and that distance over their length.

Where the ratio is 1e-3 the weights change by a thousandth in a step, which is usual; near 1 they are
replaced.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from vario.capture.moment import Moment
from vario.nouns import Reading

CARD = {
    "papers": (),
    "cost": "a copy of the weights and three reads",
    "checked": "equation: numpy in float64; closed form: SGD moves by lr times the gradient",
    "changed": "",
}


@dataclass(frozen=True)
class Update:
    """The ratio is silent where the weights were all zero before the step."""

    name: str = "update"
    needs: frozenset[str] = frozenset({"changes"})

    def read(self, moment: Moment) -> Iterator[Reading]:
        if "changes" not in moment:
            return
        for where, (change, length) in moment["changes"].items():
            yield moment.reading("update/norm", change, where)
            if length > 0:
                yield moment.reading("update/ratio", change / length, where)
