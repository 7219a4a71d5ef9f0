"""The norm of the gradient at steps of which little else is measured: a spike lasts one step.

It is read just before the optimizer moves; after a closure, just after it. What cannot be (gradients that are
sparse, scaled or in parts) is left to the steps that are measured in full.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from vario.capture.accelerators import capturing
from vario.capture.closures import given_closure
from vario.capture.entries import SUSPECT
from vario.capture.thinned import Thinned

if TYPE_CHECKING:
    from vario.capture.hearing import Hearing
    from vario.capture.observer import Observer
    from vario.capture.streams import Stream

__all__ = ["EveryNorm"]

HALVES = (torch.bfloat16, torch.float16)  # their norms are taken in single precision
PRECISIONS = (torch.float32, torch.float64, *HALVES)


class EveryNorm(Thinned):
    """Of one stream."""

    def __init__(self) -> None:
        super().__init__("gradient/norm", "the gradient's norm")
        self.within = False  # whether the step under way has a closure
        self._understood: dict[int, bool] = {}  # by the number of gradients

    def step_begins(
        self, owner: Hearing, stream: Stream, step: int, given: tuple[Any, ...], named: dict[str, Any]
    ) -> float:
        """The optimizer is about to move, with these arguments. The seconds that reading took."""
        self.within = given_closure(given, named) is not None
        return 0.0 if self.within else self.now(owner, stream, step)

    def step_taken(self, owner: Hearing, stream: Stream, step: int) -> float:
        """It has moved. What a closure computed is there still, if it ran once and torch's own optimizer."""
        mine, self.within = self.within and stream.backwards == 1, False
        torchs = type(stream.optimizers[0]()).__module__.startswith("torch.optim.")
        return self.now(owner, stream, step) if mine and torchs else 0.0

    def now(self, owner: Hearing, stream: Stream, step: int) -> float:
        """Of the gradients as they are. The seconds that reading took."""
        start = time.perf_counter()
        if threading.get_ident() == stream.thread:
            self.add(step, self.read(owner, _norm, stream, self._understood))
        seconds = time.perf_counter() - start
        self.took(seconds)
        return seconds

    def tell(self, stream: Stream, observer: Observer, *, least: float = SUSPECT) -> None:
        """Not of gradients whose squares leave single precision."""
        super().tell(stream, observer, least=least)


def _norm(stream: Stream, understood: dict[int, bool]) -> float | Tensor | None:
    grads = [grad for parameter in stream.params if (grad := parameter.grad) is not None]
    if not grads or capturing():
        return None
    if len(grads) not in understood:
        understood[len(grads)] = _are_plain(grads)
    optimizer = stream.optimizers[0]()
    if not understood[len(grads)] or getattr(optimizer, "grad_scale", None) is not None:
        return None
    if grads[0].dtype in HALVES:
        grads = [grad.float() for grad in grads]
    norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(grads))).detach()
    return float(norm.item()) if norm.is_cpu else norm


def _are_plain(grads: list[Tensor]) -> bool:
    """Whether they are whole, dense, of one kind and in one place."""
    kinds = {(type(grad), grad.layout, grad.dtype, grad.device.type) for grad in grads}
    kind, layout, dtype, device = next(iter(kinds))
    dense = kind is Tensor and layout is torch.strided and device != "meta"
    return len(kinds) == 1 and dense and dtype in PRECISIONS
