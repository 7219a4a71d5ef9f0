"""What a model answers to the batches of a loader, where the script calls no loss function on it.

Many scripts only count right answers, by hand. The loss of such an evaluation is certain all the same where
training gives the output of the model, or one of several, as it is, and a part of the batch as it is, to a
loss function of torch: the same is done here with the output and the batch of the evaluation. An output to
which training adds one number for each class, as the logarithm of its share, is told with these numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from vario.capture import hooks
from vario.capture.evaluation import Evaluation
from vario.capture.loss_calls import read_call
from vario.capture.needs import LossCall
from vario.capture.predictions import CLASSES, REGRESSION_LOSSES
from vario.capture.rows import batch_tensors
from vario.capture.shards import is_here
from vario.nouns import Reading

if TYPE_CHECKING:
    from vario.capture.attach import Attachment

__all__ = ["Answers"]

MOST_TRIES = 8  # training steps whose loss is looked at, until it is known how it is taken
MOST_NUMBERS = 1 << 20  # of an output that is kept until its loss is taken


class _Way(NamedTuple):
    """How training takes its loss: of the output, seen in this shape, and of which tensor of the batch."""

    name: str
    function: Callable[..., Any]
    more: tuple[Any, ...]  # arguments after output and target
    kwargs: Mapping[str, Any]
    output: torch.Size  # without the examples
    target: torch.Size
    dtype: torch.dtype
    place: int  # among the tensors of the batch
    part: int  # of the output, where a model gives several tensors


class Answers:
    """Listens to the output of a training forward until the way is known, then to those of evaluations."""

    def __init__(
        self, attachment: Attachment, tell: Callable[[list[Reading]], None], *, budget: float
    ) -> None:
        self._all, self._tell = attachment, tell
        self._way: _Way | None = None
        self._tries = 0
        self._root = 0  # id of the model that is called in training
        self._asked: nn.Module | None = None  # the one whose output is waited for
        self._outputs: list[tuple[int, int]] = []  # where those of training lie, and their sizes
        self._answer: Tensor | None = None  # the output of training itself, until the first loss after it
        self._stop: Callable[[], None] | None = None
        self._readings: list[Reading] = []
        self._pass = Evaluation(self._readings.extend, budget=budget)
        self._batch: Any = None  # the last one that was judged: each once

    def trains_on(self, root: nn.Module) -> None:
        """The model is called in training: its output is looked at until it is known what becomes of it."""
        if self._way is None and self._tries < MOST_TRIES and self._all.loaders.batch is not None:
            self._tries += 1
            self._root = id(root)
            self._listen(root)

    def evaluates(self, root: nn.Module) -> None:
        """The model is called in an evaluation."""
        if self._way is not None and id(root) == self._root and self._all.loaders.batch is not None:
            self._listen(root)

    def _listen(self, root: nn.Module) -> None:
        self.stop()
        self._asked = root
        self._stop = self._all.doors.ours(
            lambda: hooks.listen_to_forward(lambda *heard: self._all.hear("answered", *heard), after=True)
        )

    def stop(self) -> None:
        """No output is waited for."""
        if self._stop is not None:
            self._stop()
            self._stop = self._asked = None

    def answered(self, module: nn.Module, output: Any) -> None:
        """A module has given its output."""
        if module is not self._asked:
            return
        self.stop()
        parts = [part for part in batch_tensors(output) if is_here(part)]
        if torch.is_grad_enabled():
            self._outputs = [_place(part) for part in parts]
            small = len(parts) == 1 and parts[0].dim() == 2 and parts[0].numel() <= MOST_NUMBERS
            self._answer = parts[0].detach() if small else None
        elif self._way is not None and self._way.part < len(parts) and parts[self._way.part].is_contiguous():
            self._judge(parts[self._way.part])

    def trained(
        self, call: LossCall, function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> None:
        """A loss of training: was it taken of that output, and of a part of the batch?"""
        kept, target, answer = self._outputs, call.target, self._answer
        self._answer = None
        if not kept or target is None or len(args) < 2 or not call.output.dim():
            return
        if not call.output.is_contiguous() or _place(call.output) not in kept:
            if call.name == "cross_entropy" and answer is not None and answer.shape == call.output.shape:
                self._shifted(call.output.detach(), answer)
            return
        self._outputs = []
        for place, part in enumerate(batch_tensors(self._all.loaders.batch)):
            wanted = target.reshape(-1)
            if part.numel() == wanted.numel() and torch.equal(part.to(wanted).reshape(-1), wanted):
                shapes = call.output.shape[1:], target.shape[1:]
                more, which = tuple(args[2:]), kept.index(_place(call.output))
                self._way = _Way(call.name, function, more, kwargs, *shapes, target.dtype, place, which)
                return

    def _shifted(self, given: Tensor, answer: Tensor, *, rounding: float = 1e-4) -> None:
        """Tell what was added to the output for each class, where it is the same in all examples."""
        if not 1 < len(given) or given.shape[1] > CLASSES:
            return
        added = given.double() - answer.double()
        shift = added.mean(dim=0)
        off = float((added - shift).abs().max()) / max(float(given.abs().max()), 1.0)
        if off < rounding < float(shift.max() - shift.min()):
            self._tries = MOST_TRIES
            self._all.happened("class_shift", "", {"added": shift.tolist()})

    def _judge(self, output: Tensor) -> None:
        """Take the loss of what the model answered to the batch in hand."""
        way, loaders = self._way, self._all.loaders
        parts = batch_tensors(loaders.batch)
        if way is None or loaders.batch is self._batch or len(parts) <= way.place:
            return
        self._batch = loaders.batch
        each, single = way.output.numel(), max(way.target.numel(), 1)
        examples = parts[way.place].numel() // single
        if not examples or output.numel() != examples * each or parts[way.place].numel() != examples * single:
            return
        output = output.detach().reshape(examples, *way.output)
        target = parts[way.place].to(output.device, way.dtype).reshape(examples, *way.target)
        if way.name in REGRESSION_LOSSES and output.shape != target.shape:
            # As torch would; its warning is for the script, which got it in training.
            output, target = torch.broadcast_tensors(output, target)
        with torch.no_grad():
            value = way.function(output, target, *way.more, **way.kwargs)
        call = read_call(way.name, way.function, (output, target, *way.more), way.kwargs, value)
        if call is not None:
            self._pass.add(loaders.where, call, self._all.modes)
            self._pass.rows_seen(loaders.where, *loaders.seen_in_hand())

    def over(self, *, heard: bool) -> bool:
        """The evaluation is over. Told from here, unless a loss function was `heard`; whether it was."""
        self.stop()
        self._batch, self._outputs, self._answer = None, [], None
        self._pass.close()
        told, self._readings[:] = [] if heard else list(self._readings), []
        if told:
            self._tell(told)
        return bool(told)


def _place(tensor: Tensor) -> tuple[int, int]:
    """Where it lies, and how many numbers it has; nowhere, where they lie apart."""
    return (tensor.data_ptr(), tensor.numel()) if tensor.is_contiguous() else (0, -1)
