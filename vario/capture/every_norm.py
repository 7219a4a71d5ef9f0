"""The norm of the gradient at steps of which little else is measured: a spike lasts one step.

As many as their cost allows are read, just before the optimizer moves. The gaps between them vary: every
so many steps would fall into step with whatever the script itself does every so many.
"""

from __future__ import annotations

import math
import statistics
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from vario.capture import modes
from vario.capture.accelerators import capturing
from vario.capture.closures import given_closure
from vario.capture.entries import SUSPECT
from vario.capture.losses import host_values

if TYPE_CHECKING:
    from vario.capture.hearing import Hearing
    from vario.capture.observer import Observer
    from vario.capture.streams import Stream

__all__ = ["EveryNorm"]

MOST_HELD = 256  # numbers that may wait, on an accelerator, for a step that is measured: it waits anyway
COSTS = 33  # whose median is believed
GOLDEN = (math.sqrt(5) - 1) / 2  # multiples of it, but for their whole part, fill the unit interval evenly
HALVES = (torch.bfloat16, torch.float16)  # their norms are taken in single precision
PRECISIONS = (torch.float32, torch.float64, *HALVES)


class EveryNorm:
    """Of one stream; what it cannot read (gradients that are sparse, scaled or in parts) it leaves alone."""

    def __init__(self) -> None:
        self._period = 0
        self._ahead = 0  # steps to the next that is read
        self._phase = 0.0
        self._off = False
        self._steps: list[int] = []
        self._norms: list[float | Tensor] = []
        self._seconds: deque[float] = deque(maxlen=COSTS)
        self._understood: tuple[int, bool] = (0, False)  # by the number of gradients

    def cost(self) -> float | None:
        """Seconds that one more takes; None while that is not known."""
        return statistics.median(self._seconds) if len(self._seconds) > COSTS // 2 else None

    def keep(self, period: int) -> None:
        """Of every so many steps, on average, one is read; of none where that is 0."""
        if period and not self._period:
            self._ahead = 1
        self._period = 0 if self._off else period

    def step_begins(
        self, owner: Hearing, stream: Stream, step: int, given: tuple[Any, ...], named: dict[str, Any]
    ) -> float:
        """The optimizer is about to move, with these arguments. The seconds that reading took."""
        self._ahead -= 1
        if self._ahead > 0 or not self._period or len(self._norms) >= MOST_HELD:
            return 0.0
        start = time.perf_counter()
        self._phase = (self._phase + GOLDEN) % 1
        self._ahead = 1 + int(self._phase * (2 * self._period - 1))
        try:
            if threading.get_ident() == stream.thread and given_closure(given, named) is None:
                norm = modes.unseen(self._read, stream)
                if norm is not None:
                    self._steps.append(step)
                    self._norms.append(norm)
        except Exception as error:
            self._period, self._off = 0, True
            owner.fail("the gradient's norm at every step", error)
        self._seconds.append(time.perf_counter() - start)
        return self._seconds[-1]

    def tell(self, stream: Stream, observer: Observer) -> None:
        """What was kept, and keep it no more."""
        steps, norms = self._steps, self._norms
        if not steps:
            return
        self._steps, self._norms = [], []
        waiting = [at for at, norm in enumerate(norms) if isinstance(norm, Tensor)]
        for at, value in zip(waiting, host_values([norms[at] for at in waiting]), strict=True):
            norms[at] = value
        # what squares beyond single precision is left to steps that are measured in full
        good = [(step, norm) for step, norm in zip(steps, norms, strict=True) if SUSPECT <= norm < math.inf]
        if good:
            observer.norms(stream, *map(list, zip(*good, strict=True)))

    def _read(self, stream: Stream) -> float | Tensor | None:
        with torch._C.DisableTorchFunctionSubclass():
            grads = [grad for parameter in stream.params if (grad := parameter.grad) is not None]
            if not grads or capturing():
                return None
            if self._understood[0] != len(grads):
                self._understood = len(grads), _are_plain(grads)
            optimizer = stream.optimizers[0]()
            if not self._understood[1] or getattr(optimizer, "grad_scale", None) is not None:
                return None
            dtype = torch.float32 if grads[0].dtype in HALVES else None
            norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(grads, 2, dtype=dtype))).detach()
        return float(norm.item()) if norm.is_cpu else norm


def _are_plain(grads: list[Tensor]) -> bool:
    """Whether they are whole, dense, of one kind and in one place."""
    kinds = {(type(grad), grad.layout, grad.dtype, grad.device) for grad in grads}
    return (
        len(kinds) == 1
        and type(grads[0]) is Tensor
        and grads[0].layout is torch.strided
        and (grads[0].dtype in PRECISIONS and grads[0].device.type != "meta")
    )
