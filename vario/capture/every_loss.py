"""The loss of the steps that pass untold: a number at each backward, and nothing else.

Whatever a step is measured for besides costs a hundred times more, so most steps of a quick loop are not
measured. Their losses are: a spike lasts one step, and a course is seen through the noise of its steps.
They are told together, as they were last seen to be divided: by the number of micro-batches, or not at all.
"""

from __future__ import annotations

import statistics
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from torch import Tensor

from vario.capture.accelerators import capturing
from vario.capture.losses import host_values
from vario.capture.wild import Wild

if TYPE_CHECKING:
    from vario.capture.losses import MicroBatches
    from vario.capture.observer import Observer
    from vario.capture.streams import Stream
    from vario.capture.wild import Held

__all__ = ["EveryLoss"]

MOST_HELD = 256  # steps whose numbers may wait, on an accelerator, for one that is measured: it waits anyway
MOST_NUMBERS = 64 * MOST_HELD  # of backwards: a script may go on with them and never step again
COSTS = 33  # whose median is believed


class EveryLoss:
    """Of one stream. `due`: whether the number of the next backward is to be kept."""

    def __init__(self) -> None:
        self.due = False
        self._period = 0
        self._numbers: list[float | Tensor | None] = []  # of each backward; None where it is not known
        # how many there were at the end of each step, and what the batch in hand held then
        self._ends: list[tuple[int, Held | None]] = []
        self._wild = Wild()
        self._keeping: deque[float] = deque(maxlen=COSTS)  # seconds, of a backward
        self._telling: deque[float] = deque(maxlen=COSTS)  # of a step

    def cost(self) -> float | None:
        """Seconds that the loss of one more step takes; None while that is not known."""
        if not self._telling or len(self._keeping) < COSTS:
            return None
        return statistics.median(self._keeping) + statistics.median(self._telling)

    def keep(self, period: int) -> None:
        """Of every so many steps one has its loss kept; of none where that is 0."""
        self._period = period
        self._set_due()

    def backward(self, loss: Any) -> None:
        """A backward from `loss`, as the script gave it, or as it was before it was scaled."""
        if len(self._numbers) >= MOST_NUMBERS:
            return
        if type(loss) in (list, tuple) and len(loss) == 1:
            loss = loss[0]
        number: float | Tensor | None = None
        if type(loss) is not Tensor:
            pass
        elif loss.is_cpu:
            if loss.numel() == 1:
                number = loss.item()
        elif loss.numel() == 1 and loss.device.type != "meta" and not capturing():
            # to wait for it would halt the queue; its memory may be used again by a graph of the device
            number = loss.detach().clone()
        self._numbers.append(number)

    def took(self, seconds: float) -> None:
        """So long a backward was kept for."""
        self._keeping.append(seconds)

    def passed(self, held: Held | None = None) -> None:
        """A step ends of which nothing but these was heard; what its batch held."""
        self._ends.append((len(self._numbers), held))
        self._set_due()

    def drop(self) -> None:
        """What went backward since the last step is of no step of this stream."""
        del self._numbers[self._ends[-1][0] if self._ends else 0 :]

    def heard(
        self, stream: Stream, batches: MicroBatches, observer: Observer, held: Held | None = None
    ) -> None:
        """A step that was heard ends; its own loss may have been read."""
        fresh = batches is not stream.last_batches
        if "losses" in stream.wanted:
            stream.tell_kept(observer)
            if fresh and stream.loss is not None:
                one = stream.divided.into == 1
                self._wild.look(stream, observer, stream.step, stream.loss, held if one else None)
            return
        for member in batches.members if fresh and self.due else ():
            self.backward(member.value)
        self.passed(held)
        if len(self._ends) >= MOST_HELD:
            self.tell(stream, observer, before=stream.step + 1)

    def tell(self, stream: Stream, observer: Observer, *, before: int | None = None) -> None:
        """What was kept of the steps before that one (that which the stream is at), and keep it no more."""
        start, numbers, ends = time.perf_counter(), self._numbers, self._ends
        self._numbers, self._ends = [], []
        self._set_due()
        if not numbers:
            return
        waiting = [at for at, number in enumerate(numbers) if isinstance(number, Tensor)]
        for at, value in zip(waiting, host_values([numbers[at] for at in waiting]), strict=True):
            numbers[at] = value
        steps, losses, begin = [], [], 0
        for step, (end, held) in enumerate(ends, (stream.step if before is None else before) - len(ends)):
            known = [number for number in numbers[begin:end] if isinstance(number, float)]
            if known and len(known) == end - begin == stream.divided.into:
                steps.append(step)
                losses.append(stream.divided.by * sum(known) / len(known))
                self._wild.look(stream, observer, step, losses[-1], held if len(known) == 1 else None)
            begin = end
        if steps:
            observer.losses(stream, steps, losses)
            self._telling.append((time.perf_counter() - start) / len(steps))

    def _set_due(self) -> None:
        self.due = self._period > 0 and len(self._ends) % self._period == 0
