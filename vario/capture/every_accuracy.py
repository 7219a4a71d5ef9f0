"""The share of a batch that is classified right, at steps of which little else is measured.

Read as the loss function is called, from its arguments, and kept where the step has as many backwards as
such calls, and as micro-batches: then all of them were of training. Only of `cross_entropy` with numbers for
classes.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from vario.capture.accelerators import capturing
from vario.capture.thinned import Thinned

if TYPE_CHECKING:
    from vario.capture.hearing import Hearing
    from vario.capture.streams import Stream

__all__ = ["EveryAccuracy"]

LOSS = "cross_entropy"
MOST_ENTRIES = 1 << 22  # of the outputs; of larger ones evenly spaced rows are read
MOST_CALLS = 64  # within a step


class EveryAccuracy(Thinned):
    """Of one stream."""

    def __init__(self) -> None:
        super().__init__("accuracy/train", "the accuracy")
        self._calls: list[_Call | None] = []  # None where one is not known
        self._spent = 0.0

    def called(
        self, owner: Hearing, stream: Stream, name: str, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> float:
        """A loss function was called while gradients are on. The seconds that reading took."""
        if len(self._calls) >= MOST_CALLS or threading.get_ident() != stream.thread:
            return 0.0
        start = time.perf_counter()
        self._calls.append(self.read(owner, _count, args, kwargs) if name == LOSS else None)
        seconds = time.perf_counter() - start
        self._spent += seconds
        return seconds

    def step_ends(self, owner: Hearing, step: int, backwards: int, micro_batches: int) -> float:
        """A step of so many backwards ends, of how many micro-batches steps are. The seconds it took."""
        start = time.perf_counter()
        calls = [call for call in self._calls if call is not None]
        alike = len({call.classes for call in calls}) == 1
        if alike and len(calls) == len(self._calls) == backwards == micro_batches:
            self.add(step, self.read(owner, _share, calls))
        seconds = time.perf_counter() - start
        if self._calls:
            self.took(self._spent + seconds)
        return seconds

    def next_step(self, passed: int = 1) -> None:
        """Nothing of the step before is of the coming one."""
        super().next_step(passed)
        if self._calls:
            self._calls, self._spent = [], 0.0


class _Call(NamedTuple):
    """Rows whose largest output is that of their label, and rows that have a label, of a micro-batch."""

    right: Tensor
    known: Tensor
    classes: int


def _share(calls: Sequence[_Call]) -> float | Tensor:
    right = torch.stack([call.right for call in calls]).sum()
    known = torch.stack([call.known for call in calls]).sum()
    return float((right / known).item()) if right.is_cpu else right / known


def _count(args: Sequence[Any], kwargs: Mapping[str, Any]) -> _Call | None:
    output, target = (
        args[at] if len(args) > at else kwargs.get(name) for at, name in ((0, "input"), (1, "target"))
    )
    if type(output) is not Tensor or type(target) is not Tensor or output.dim() != 2 or target.dim() != 1:
        return None
    wrapped = torch._C._functorch.is_functorch_wrapped_tensor
    if wrapped(output) or wrapped(target) or not output.requires_grad or capturing() or not len(target):
        return None
    ignored = args[4] if len(args) > 4 else kwargs.get("ignore_index", -100)
    if output.numel() > MOST_ENTRIES:
        stride = -(-output.numel() // MOST_ENTRIES)
        output, target = output[::stride], target[::stride]
    return _Call((output.detach().argmax(1) == target).sum(), (target != ignored).sum(), output.shape[1])
