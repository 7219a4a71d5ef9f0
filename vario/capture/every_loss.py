"""The loss of the steps that pass untold: a number at each backward, and nothing else.

Whatever a step is measured for besides costs a hundred times more, so most steps of a quick loop are not
measured. Their losses are: a spike lasts one step, and a course is seen through the noise of its steps.
They are told together, as they were last seen to be divided: by the number of micro-batches, or not at all.
"""

from __future__ import annotations

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


class EveryLoss:
    """Of one stream. Every so many steps (`period`) one has its loss kept; none where that is 0."""

    def __init__(self) -> None:
        self.period = 0
        self._numbers: list[float | Tensor | None] = []  # of each backward; None where it is not known
        # how many there were at the end of each step, and what the batch in hand was then
        self._ends: list[tuple[int, Held | None]] = []
        self._wild = Wild()

    def backward(self, loss: Any) -> None:
        """A backward from `loss`, as the script gave it, or as it was before it was scaled."""
        if not self.period or len(self._ends) % self.period or len(self._numbers) >= MOST_NUMBERS:
            return
        if type(loss) in (list, tuple) and len(loss) == 1:
            loss = loss[0]
        if type(loss) is not Tensor or loss.numel() != 1 or loss.is_complex():
            self._numbers.append(None)
        elif loss.device.type == "cpu":
            self._numbers.append(loss.item())
        else:  # to wait for it would halt the queue; its memory may be used again by a graph of the device
            hidden = loss.device.type == "meta" or capturing()
            self._numbers.append(None if hidden else loss.detach().clone())

    def passed(self, held: Held | None = None) -> None:
        """A step ends of which nothing but these was heard; what its batch held."""
        self._ends.append((len(self._numbers), held))

    def drop(self) -> None:
        """What went backward since the last step is of no step of this stream."""
        del self._numbers[self._ends[-1][0] if self._ends else 0 :]

    def heard(
        self, stream: Stream, batches: MicroBatches, observer: Observer, held: Held | None = None
    ) -> None:
        """A step that was heard ends; its own loss may have been read."""
        fresh = batches is not stream.last_batches
        if "losses" in stream.wanted:
            self.tell(stream, observer)
            if fresh and stream.loss is not None:
                one = stream.divided.into == 1
                self._wild.look(stream, observer, stream.step, stream.loss, held if one else None)
            return
        for member in batches.members if fresh else ():
            self.backward(member.value)
        self.passed(held)
        if len(self._ends) >= MOST_HELD:
            self.tell(stream, observer, before=stream.step + 1)

    def tell(self, stream: Stream, observer: Observer, *, before: int | None = None) -> None:
        """What was kept of the steps before that one (that which the stream is at), and keep it no more."""
        numbers, ends = self._numbers, self._ends
        self._numbers, self._ends = [], []
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
