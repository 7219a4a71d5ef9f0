"""Extremes of what the classification loss was given, and how near its rows come to summing to 1.

Logits may sum to anything. Rows that all sum to 1 with entries between 0 and 1 are probabilities, to
which the loss then applies a second softmax; rows whose largest entries grow without end round the
loss to 0.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from vario.capture.moment import Moment
from vario.nouns import Reading

CARD = {
    "papers": (),
    "cost": "three reads of the outputs",
    "checked": "equation: numpy in float64; closed form: a softmax before cross entropy",
    "changed": "",
}


@dataclass(frozen=True)
class Logits:
    """``mean_sum`` of the rows and ``sum_deviation``, the mean of |sum - 1|; silent for regression."""

    name: str = "logits"
    needs: frozenset[str] = frozenset({"logit_ranges"})

    def read(self, moment: Moment) -> Iterator[Reading]:
        if "logit_ranges" not in moment:
            return
        for quantity, value in moment["logit_ranges"]._asdict().items():
            if value is not None:
                yield moment.reading(f"logits/{quantity}", value)
