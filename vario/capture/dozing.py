"""Steps of which nothing is wanted: they pass untold, and are counted.

Hearing of a step costs some 20 us even where nothing is done with it, which is 1 % of a step of 2 ms. While
the attachment dozes, the hooks only count the steps down.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vario.capture.attach import Attachment
    from vario.capture.streams import Stream

__all__ = ["Doze"]


class Doze:
    """`optimizer` is the id of the one whose steps pass, 0 while awake; `left`, how many are yet to pass."""

    def __init__(self, owner: Attachment) -> None:
        self.optimizer = self.left = 0
        self.nests = False  # whether a step was met within another: then each must be heard
        self._owner = owner
        self._counted = 0  # what `left` was at the last count
        self._untold = 0

    def begin(self, stream: Stream) -> None:
        """Let the coming steps pass, where one optimizer alone steps and the observer agrees."""
        optimizers = [id(alive) for ref in stream.optimizers if (alive := ref()) is not None]
        if len(self._owner.streams) == len(optimizers) == 1 and not self.nests:
            self.left = self._counted = self._owner.observer.idle_steps(stream)
            self.optimizer = optimizers[0] if self.left else 0

    def count(self) -> None:
        """Move the number of the step on by those that have passed."""
        if self.optimizer:
            passed, self._counted = self._counted - self.left, self.left
            self._owner.streams[0].step += passed
            self._untold += passed

    def end(self) -> None:
        """Account for the steps that have passed, and hear the next one."""
        self.count()
        self.optimizer = 0
        if not self._untold:
            return
        owner, passed, self._untold = self._owner, self._untold, 0
        stream = owner.streams[0]
        owner.observer.passed(stream, passed)
        stream.ended, stream.data_wait, stream.own_before = time.perf_counter(), 0.0, owner.own
        owner.expect(stream)
