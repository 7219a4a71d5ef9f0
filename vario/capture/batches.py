"""What was gathered since the last step: losses on their way backward, and what came before them."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from vario.capture import graph
from vario.capture.loss_calls import example_mean, leads_to_inputs
from vario.capture.losses import MicroBatch, MicroBatches, constant_divisor, loss_value
from vario.capture.needs import LossCall
from vario.capture.shards import is_here
from vario.capture.streams import Stream
from vario.capture.terms import terms_of

if TYPE_CHECKING:
    from vario.capture.loaders import Loaders

__all__ = ["Gathered", "carried", "one_clip"]


class Gathered:
    """The micro-batches of the step that is under way, or of the last one until the next begins."""

    def __init__(self) -> None:
        self.batches = MicroBatches()
        self._given: list[Tensor] = []  # values of loss functions since the last backward
        self._calls: list[tuple[str, LossCall]] = []  # loader, call since the last backward
        self._unscaled: dict[int, tuple[Any, Any]] = {}  # id of a scaled loss: itself, the loss

    def open(self) -> MicroBatches:
        """The micro-batches of the step under way; a new step where the last one is closed."""
        if self.batches.closed:
            self.batches = MicroBatches()
        return self.batches

    def loss_called(self, loaders: Loaders, call: LossCall, value: Tensor | None, *, keep: bool) -> None:
        """A loss function gave a value that may go backward; None where its graph is not at hand any more."""
        self._given.append(example_mean(call)[0])
        if keep:
            of_inputs = value is not None and leads_to_inputs(value)
            self._calls.append((loaders.where, replace(call, drawn=loaders.in_hand, of_inputs=of_inputs)))

    def loss_given(self, value: Tensor) -> None:
        """The short way for a loss function that gives its mean, where nobody asks for its arguments."""
        self._given.append(value.detach())

    def scaled(self, loss: Any, scaled: Any) -> None:
        """A GradScaler made `scaled` of `loss`."""
        if isinstance(scaled, Tensor) and isinstance(loss, Tensor):
            self._unscaled = {id(scaled): (scaled, loss)}  # one at a time: it keeps the graph alive

    def backward(self, tensors: Any, loader: str) -> None:
        """A backward begins from `tensors`, on a batch of `loader`."""
        batches = self.open()
        _, loss = self._unscaled.pop(id(tensors), (None, tensors))
        batches.members.append(
            MicroBatch(loss_value(loss), constant_divisor(loss), self._given, terms_of(loss))
        )
        batches.calls.extend(call for where, call in self._calls if where == loader)
        self._given, self._calls = [], []

    def passes(self, tensors: Any) -> None:
        """A backward of which nothing is wanted but its loss."""
        self.open().members.append(MicroBatch(loss_value(tensors), 1.0, []))

    def look_at_graph(self, tensors: Any, streams: list[Stream]) -> None:
        """Before the first backward of a step: activations of the streams that want them."""
        if not any({"activations", "double_softmax"} & stream.wanted for stream in streams):
            return
        named = {
            id(p): f"{s.name}|{name}" for s in streams for p, name in zip(s.params, s.names, strict=True)
        }
        seen = graph.walk(tensors, named)
        self.batches.double_softmax = seen.double_softmax
        wanting = {stream.name for stream in streams if "activations" in stream.wanted}
        for activation in seen.activations:
            stream, _, where = activation.where.partition("|")
            if stream in wanting:
                self.batches.activations.setdefault(stream, []).append(replace(activation, where=where))

    def closed(self, *, let_go: bool, late: bool = False) -> None:
        """A step has been made of them; `late`: told after the next step's losses were called."""
        self.batches.closed = True
        if not late:
            self._given, self._calls = [], []
        if let_go:
            self.batches.let_go()


def carried(streams: list[Stream]) -> None:
    """Before the first backward of a step: the norm of what lies in `.grad`, where it is wanted.

    Not of what another thread trains: to read a `.grad` while it is written there ends the process.
    """
    for stream in streams:
        if "carried" in stream.wanted and stream.thread == threading.get_ident():
            grads = [p.grad.detach() for p in stream.params if p.grad is not None and not p.grad.is_sparse]
            norms = torch._foreach_norm(grads) if grads else []
            stream.carried = float(torch.stack([norm.float() for norm in norms]).norm()) if norms else 0.0


def one_clip(clips: list[tuple[Any, Any]]) -> tuple[float, float] | None:
    """What clipping saw, where it was done once; done in parts it says nothing of the whole."""
    one = len(clips) == 1 and is_here(clips[0][0])  # the norm of shards is known to all ranks together
    return (float(clips[0][0]), float(clips[0][1])) if one else None
