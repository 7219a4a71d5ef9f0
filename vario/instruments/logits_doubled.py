"""Whether the graph shows a softmax right before cross entropy, or a sigmoid before its own loss.

The loss applies the same function again: gradients shrink, and the loss cannot come near 0.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from vario.capture.moment import Moment
from vario.nouns import Reading

CARD = {
    "papers": (),
    "cost": "a walk of the graph",
    "checked": "closed form: graphs with and without it",
    "changed": "",
}


@dataclass(frozen=True)
class LogitsDoubled:
    """1 or 0; silent where the graph was not walked."""

    name: str = "logits-doubled"
    needs: frozenset[str] = frozenset({"double_softmax"})

    def read(self, moment: Moment) -> Iterator[Reading]:
        if "double_softmax" in moment:
            yield moment.reading("logits/doubled", float(moment["double_softmax"]))
