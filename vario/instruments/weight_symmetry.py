"""Largest difference between two output rows of a weight matrix, over its largest magnitude.

0 where all rows are equal: such units compute the same, are given the same gradient, and stay equal.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from vario.capture.moment import Moment
from vario.nouns import Reading

CARD = {
    "papers": (),
    "cost": "three reads of the weights",
    "checked": "equation: numpy in float64",
    "changed": "",
}


@dataclass(frozen=True)
class WeightSymmetry:
    """For parameters of two or more dimensions and two or more rows; silent where all are zero."""

    name: str = "weight-symmetry"
    needs: frozenset[str] = frozenset({"row_ranges"})

    def read(self, moment: Moment) -> Iterator[Reading]:
        if "row_ranges" not in moment:
            return
        for where, (difference, largest) in moment["row_ranges"].items():
            if largest > 0:
                yield moment.reading("weight/row_difference", difference / largest, where)
