"""Norm and spread of the weights after the step, and how many of them are not finite."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from vario.capture.moment import Moment
from vario.nouns import Reading

CARD = {
    "papers": (),
    "cost": "three reads of the weights",
    "checked": "equation: numpy in float64",
    "changed": "the standard deviation is over n",
}


@dataclass(frozen=True)
class Weight:
    """Of each parameter, and of all as if they were one."""

    name: str = "weight"
    needs: frozenset[str] = frozenset({"weight_norms", "weight_statistics"})

    def read(self, moment: Moment) -> Iterator[Reading]:
        if "weight_norms" not in moment or "weight_statistics" not in moment:
            return
        for where, (norm, non_finite) in moment["weight_norms"].items():
            yield moment.reading("weight/norm", norm, where)
            yield moment.reading("weight/std", moment["weight_statistics"][where].std, where)
            yield moment.reading("weight/non_finite", non_finite, where)
