"""Training loss of the step, and how many times the step went backward.

With accumulation, scripts divide each micro-batch's loss by their number, or do not. Which of the
two it was is read from the loss functions: if what went backward is, in ratio, nearer to one
micro-batch's share of their values than to the values themselves, it had been divided.
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
    "changed": "a loss of the user's own making, over several backwards, is taken as not divided",
}


@dataclass(frozen=True)
class Loss:
    """Mean over micro-batches of the undivided loss; silent where nothing went backward."""

    name: str = "loss"
    needs: frozenset[str] = frozenset({"losses", "loss_call_values"})

    def read(self, moment: Moment) -> Iterator[Reading]:
        if "losses" not in moment or not moment["losses"]:
            return
        losses = [float(loss) for loss in moment["losses"]]
        mean = sum(losses) / len(losses)
        if len(losses) > 1 and "loss_call_values" in moment:
            mean *= _divisor(len(losses), sum(losses), sum(moment["loss_call_values"]))
        yield moment.reading("loss/train", mean)
        yield moment.reading("loss/backwards", float(len(losses)))


def _divisor(backwards: int, went_backward: float, given: float) -> float:
    """``backwards`` where each loss was divided by it, else 1 (also where neither can be told)."""
    if not given > 0 or not went_backward > 0:
        return 1.0
    nearer_to_share = went_backward / given < backwards**-0.5  # halfway between 1 and 1/n, in logarithms
    return float(backwards) if nearer_to_share else 1.0
