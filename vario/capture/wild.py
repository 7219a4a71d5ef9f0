"""Batches whose loss stands out: which examples they held, while that is still known.

A strange example is in one batch of each epoch, and the batches that held it are known by their losses.
"""

from __future__ import annotations

import math
import operator
import statistics
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vario.capture.observer import Observer
    from vario.capture.streams import Stream

__all__ = ["Held", "Wild"]

WINDOW = 50  # losses before it, which say what is usual
AGAIN = 25  # losses after which that is looked at anew
DEVIATIONS = 8.0  # usual ones above the usual loss, as rules judge it
MOST = 16  # batches that are told, whenever the run has doubled
EXAMPLES = 1024  # of a batch that are told; a larger one says little of each


Held = tuple[str, Sequence[int]]  # a loader, and the numbers in its data set of the examples of a batch


class Wild:
    """Of one stream, whose losses it sees in the order of the steps."""

    def __init__(self) -> None:
        self._before: deque[float] = deque(maxlen=WINDOW)
        self._limit = math.inf
        self._seen = self._told = 0

    def look(self, stream: Stream, observer: Observer, step: int, loss: float, held: Held | None) -> None:
        """The loss of a step, and what its batch held, where that is known."""
        finite = math.isfinite(loss)
        if (loss > self._limit or (not finite and self._before)) and held is not None:
            self._tell(stream, observer, step, loss, held)
        if not finite:
            self._before.clear()  # what comes after the first is lost in any case
            self._limit = math.inf
            return
        self._before.append(loss)
        self._seen += 1
        if len(self._before) == WINDOW and self._seen % AGAIN == 0:
            middle = statistics.median(self._before)
            spread = 1.4826 * statistics.median(abs(one - middle) for one in self._before)
            self._limit = middle + DEVIATIONS * max(spread, 1e-3 * abs(middle) + 1e-12)

    def _tell(self, stream: Stream, observer: Observer, step: int, loss: float, held: Held) -> None:
        loader, examples = held
        if self._told >= MOST * step.bit_length() or len(examples) > EXAMPLES:
            return
        try:
            numbers = [operator.index(example) for example in examples]
        except TypeError:  # a sampler may draw names, pairs or anything
            return
        self._told += 1
        data = {"step": step, "loss": loss if math.isfinite(loss) else None, "examples": numbers}
        observer.event(stream, "wild_batch", loader, data)
