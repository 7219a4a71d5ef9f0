"""Optimizers that step while the backward is still running, one for each parameter.

All that step within one call of backward are one step of one stream. Each gradient is gone as soon as
its optimizer has stepped, so what the step is to offer is copied on the way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor
from torch.optim.optimizer import Optimizer

from vario.capture.streams import Stream

if TYPE_CHECKING:
    from vario.capture.attach import Attachment

__all__ = ["InBackward"]


class InBackward:
    """The stream of these optimizers, made at the end of the first backward that has any."""

    def __init__(self, attachment: Attachment) -> None:
        self._all = attachment
        self._stream: Stream | None = None
        self._stepped: list[Optimizer] = []
        self._grads: dict[int, Tensor | None] = {}
        self._weights: dict[int, Tensor] = {}

    def begin(self) -> None:
        """A backward begins."""
        self._stepped, self._grads, self._weights = [], {}, {}

    def before_step(self, optimizer: Optimizer) -> None:
        """One of the optimizers is about to step."""
        self._stepped.append(optimizer)
        wanted = None if self._stream is None else self._stream.wanted
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                if wanted is None or "grads" in wanted:
                    grad = parameter.grad
                    self._grads[id(parameter)] = None if grad is None else grad.detach().clone()
                if wanted is None or "weights_before" in wanted:
                    self._weights[id(parameter)] = parameter.detach().clone()

    def end(self) -> None:
        """The backward is over: if any optimizer stepped in it, that was a step."""
        if not self._stepped:
            return
        if self._stream is None:
            params = [p for o in self._stepped for group in o.param_groups for p in group["params"]]
            if not self._all.is_asked_for(params):
                return
            self._stream = self._all.begin(params, self._stepped)
        grads = [self._grads.get(id(parameter)) for parameter in self._stream.params]
        weights = (
            [self._weights.get(id(p), p.detach()) for p in self._stream.params] if self._weights else None
        )
        self._all.gradients_ready(self._stream, grads, weights, late=True)
        self._all.step_taken(self._stream)
        self._stepped, self._grads, self._weights = [], {}, {}
