"""The norm that a script clips its gradient by, at steps of which little else is measured.

It is there anyway. Where a step clips in parts, none of them is the norm of the whole.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from torch import Tensor

from vario.capture.accelerators import capturing
from vario.capture.thinned import Thinned

if TYPE_CHECKING:
    from vario.capture.hearing import Hearing

__all__ = ["EveryClip"]


class EveryClip(Thinned):
    """Of one stream."""

    def __init__(self) -> None:
        super().__init__("clipping/norm_before", "the norm that is clipped")
        self._clips: list[Any] = []

    def clipped(self, norm: Any) -> None:
        """The script was given this norm."""
        if len(self._clips) < 2:
            self._clips.append(norm)

    def step_ends(self, owner: Hearing, step: int) -> float:
        """A step ends of which this is not read otherwise. The seconds that reading took."""
        start = time.perf_counter()
        if len(self._clips) == 1:
            self.add(step, self.read(owner, _number, self._clips[0]))
            self.took(time.perf_counter() - start)
        return time.perf_counter() - start

    def next_step(self, passed: int = 1) -> None:
        """What was clipped before is of no coming step."""
        super().next_step(passed)
        self._clips = []


def _number(norm: Any) -> float | Tensor | None:
    if type(norm) is not Tensor or norm.numel() != 1 or capturing():
        return None
    return float(norm.item()) if norm.is_cpu else norm.detach().clone()
