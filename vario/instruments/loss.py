"""Training loss of the step, and how many times the step went backward.

Where a script accumulates gradients over micro-batches, it is the mean of their losses, each as it was
before the script divided it by their number (``capture.losses`` tells whether it did).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from vario.capture.moment import Moment
from vario.nouns import Reading

CARD = {
    "papers": (),
    "cost": "nothing",
    "checked": "closed form: losses that are known",
    "changed": "",
}


@dataclass(frozen=True)
class Loss:
    """Mean over micro-batches of the undivided loss; silent where nothing went backward."""

    name: str = "loss"
    needs: frozenset[str] = frozenset({"losses"})

    def read(self, moment: Moment) -> Iterator[Reading]:
        if "losses" not in moment or not moment["losses"]:
            return
        losses = [float(loss) for loss in moment["losses"]]
        yield moment.reading("loss/train", sum(losses) / len(losses))
        yield moment.reading("loss/backwards", float(len(losses)))
