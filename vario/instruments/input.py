"""Mean, spread and range of what the model is given, and how unequal its features are.

Most networks train best on inputs of mean 0 and spread 1 with features of one scale.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from vario.capture.moment import Moment
from vario.nouns import Reading

CARD = {
    "papers": (),
    "cost": "five reads of the inputs",
    "checked": "equation: numpy in float64",
    "changed": "floating inputs only; not a number where an input is not, but for the count of those",
}


@dataclass(frozen=True)
class Input:
    """All floating inputs together; ``feature_spread`` for an input that is a table."""

    name: str = "input"
    needs: frozenset[str] = frozenset({"input_spread", "feature_stds"})

    def read(self, moment: Moment) -> Iterator[Reading]:
        if "input_spread" in moment:
            for quantity, value in moment["input_spread"]._asdict().items():
                yield moment.reading(f"input/{quantity}", value)
        if "feature_stds" in moment:
            varying = moment["feature_stds"][moment["feature_stds"] > 0]
            if len(varying) > 1:
                yield moment.reading("input/feature_spread", float(varying.max() / varying.min()))
