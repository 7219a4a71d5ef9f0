"""A number of some of the steps of which little else is measured: as many as its cost allows.

The gaps between them vary: every so many steps would fall into step with whatever the script itself does
every so many.
"""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from vario.capture import modes
from vario.capture.losses import host_values

if TYPE_CHECKING:
    from vario.capture.hearing import Hearing
    from vario.capture.observer import Observer
    from vario.capture.streams import Stream

__all__ = ["Thinned"]

MOST_HELD = 256  # numbers that may wait, on an accelerator, for a step that is measured: it waits anyway
FAR = 1 << 30  # steps
COSTS = 33  # whose median is believed
GOLDEN = (math.sqrt(5) - 1) / 2  # multiples of it, but for their whole part, fill the unit interval evenly


class Thinned:
    """Points of a series of one stream. `due`: whether the step under way is one of those that are read.

    It is read amid the script's own work: what fails is switched off, and the script goes on.
    """

    def __init__(self, series: str, what: str) -> None:
        self.series, self.what, self.due = series, what, False
        self._period = self._ahead = 0  # steps to the next that is read
        self._phase = 0.0
        self._off = False
        self._steps: list[int] = []
        self._values: list[float | Tensor] = []
        self._seconds: deque[float] = deque(maxlen=COSTS)

    def cost(self) -> float | None:
        """Seconds that one more takes; None while that is not known."""
        return statistics.median(self._seconds) if len(self._seconds) > COSTS // 2 else None

    def keep(self, period: int) -> None:
        """Of every so many steps, on average, one is read; of none where that is 0."""
        first, self._period = not self._period, 0 if self._off else period
        if first:
            self._ahead = 1
        self._set_due()

    def next_step(self, passed: int = 1) -> None:
        """So many steps have ended; whether the coming one is to be read."""
        if self.due:
            self._phase = (self._phase + GOLDEN) % 1
            self._ahead = 2 + int(self._phase * (2 * self._period - 1))
        self._ahead -= passed
        self._set_due()

    def ends_until(self) -> int:
        """How many steps are to end before anything is to be done: one where the step under way is read."""
        return max(1, self._ahead - 1) if self._period and len(self._values) < MOST_HELD else FAR

    def _set_due(self) -> None:
        self.due = self._period > 0 and self._ahead <= 1 and len(self._values) < MOST_HELD

    def add(self, step: int, value: float | Tensor | None) -> None:
        """What was read of it, if that could be."""
        if value is not None:
            self._steps.append(step)
            self._values.append(value)

    def read(self, owner: Hearing, call: Callable[..., Any], *arguments: Any) -> Any:
        """What `call` returns, unseen by modes of the script; None where it fails, and no more is read."""
        try:
            with torch._C.DisableTorchFunctionSubclass():
                return modes.unseen(call, *arguments)
        except Exception as error:
            self._off, self._period, self.due = True, 0, False
            owner.fail(f"{self.what} of every step", error)
            return None

    def took(self, seconds: float) -> None:
        """So long it took to read one."""
        self._seconds.append(seconds)

    def tell(self, stream: Stream, observer: Observer, *, least: float = -math.inf) -> None:
        """What was kept that is a number, and at least so large; and keep it no more."""
        steps, values = self._steps, self._values
        if not steps:
            return
        self._steps, self._values = [], []
        waiting = [at for at, value in enumerate(values) if isinstance(value, Tensor)]
        for at, value in zip(waiting, host_values([values[at] for at in waiting]), strict=True):
            values[at] = value
        good = [pair for pair in zip(steps, values, strict=True) if least <= pair[1] < math.inf]
        if good:
            observer.kept(stream, self.series, *map(list, zip(*good, strict=True)))
