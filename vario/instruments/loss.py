"""Training loss of the step, how many times the step went backward, and how many terms the loss adds up.

Where a script accumulates gradients over micro-batches, it is the mean of their losses, each as it was
before the script divided it by their number (``capture.losses`` tells whether it did). The terms are those
of one backward, as its graph tells (``capture.terms``): 1 for a mean, N for a sum of N.
"""

from __future__ import annotations

import math
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
    needs: frozenset[str] = frozenset({"losses", "terms"})

    def read(self, moment: Moment) -> Iterator[Reading]:
        if "losses" not in moment or not moment["losses"]:
            return
        losses = [float(loss) for loss in moment["losses"]]
        yield moment.reading("loss/train", sum(losses) / len(losses))
        yield moment.reading("loss/backwards", float(len(losses)))
        terms = moment["terms"] if "terms" in moment else []
        if terms and all(map(math.isfinite, terms)):
            yield moment.reading("loss/terms", sum(terms) / len(terms))
