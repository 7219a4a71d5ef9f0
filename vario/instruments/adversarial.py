"""Share of the attacked examples that the attack made easier: their loss is lower after it than before.

An attack changes the inputs along the gradient of the loss with respect to them, so the loss of nearly every
example rises. Where it falls for many, the model has bent its loss around a single step.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from vario.capture.moment import Moment
from vario.nouns import Reading

CARD = {
    "papers": ("P069",),
    "cost": "two reads of the outputs, in training that attacks its inputs; nothing elsewhere",
    "checked": "equation: numpy",
    "changed": "of several steps of an attack the first is taken as before it",
}


@dataclass(frozen=True)
class Adversarial:
    """Of steps that take a loss twice for the same targets, first with a gradient for the inputs."""

    name: str = "adversarial"
    needs: frozenset[str] = frozenset({"abnormal_share"})

    def read(self, moment: Moment) -> Iterator[Reading]:
        if "abnormal_share" in moment:
            yield moment.reading("adversarial/abnormal_share", moment["abnormal_share"])
