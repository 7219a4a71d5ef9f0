"""Mean and spread of the targets of a regression, how many are not finite, and how many each output has."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from vario.capture.moment import Moment
from vario.nouns import Reading

CARD = {
    "papers": (),
    "cost": "five reads of the targets",
    "checked": "equation: numpy in float64",
    "changed": "",
}


@dataclass(frozen=True)
class Target:
    """Floating targets of torch's regression losses; silent for classes."""

    name: str = "target"
    needs: frozenset[str] = frozenset({"target_spread", "target_pairs"})

    def read(self, moment: Moment) -> Iterator[Reading]:
        if "target_spread" not in moment:
            return
        found = moment["target_spread"]
        yield moment.reading("target/mean", found.mean)
        yield moment.reading("target/std", found.std)
        yield moment.reading("target/non_finite", found.non_finite)
        if "target_pairs" in moment:
            yield moment.reading("target/pairs", moment["target_pairs"])
