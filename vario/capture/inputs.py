"""What the model is given, seen by a hook on forward that is there only until it has seen it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from vario.capture import hooks, outside
from vario.capture.rows import batch_tensors
from vario.capture.shards import is_here
from vario.capture.streams import Stream

if TYPE_CHECKING:
    from vario.capture.attach import Attachment

__all__ = ["Inputs"]


class Inputs:
    """Inputs of the first training forward of a step, of each stream that wants them.

    Where the model is called by keywords, or only parts of it are compiled, the batch of the data loader
    stands in. Without a loader it is what the first module within is given.
    """

    def __init__(self, attachment: Attachment) -> None:
        self._all = attachment
        self._stop: Callable[[], None] | None = None
        self._before_streams: list[Tensor] = []

    def listen(self) -> None:
        """Set the hook if a stream, or the first one that is to come, wants inputs."""
        if self._stop is None and (not self._all.streams or self._wanting()):
            self._stop = hooks.listen_to_forward(lambda *heard: self._all.hear("forward", *heard))

    def stop(self) -> None:
        """Take the hook away."""
        if self._stop is not None:
            self._stop()
            self._stop = None

    def again(self) -> None:
        """Listen anew: what was set on modules a compiler would trace."""
        self.stop()
        self.listen()

    def forward(self, module: nn.Module, arguments: Any) -> None:
        """A module is called."""
        if not torch.is_grad_enabled() or torch.compiler.is_compiling():
            return
        found = [tensor.detach() for tensor in batch_tensors(arguments) if is_here(tensor)]
        if not found and not self._all.loaders.inputs:
            return
        if not self._all.streams:
            if not outside.is_where_we_are():  # there it may be a part that comes after others
                self._before_streams = found
                self.stop()
            return
        batches, served = self._all.gathered.batches, False
        for stream in self._wanting():
            fresh = stream.inputs is None or (batches.closed and stream.inputs_after is not batches)
            if fresh and stream.is_asked(module):
                stream.inputs, stream.inputs_after = found, batches
                served = True
        if served:
            self._all.answers.trains_on(module)
        # a wrapper around the model comes first; steps of other streams may come between
        if served and len(self._all.streams) == 1:
            self.stop()

    def of(self, stream: Stream) -> list[Tensor] | None:
        """The inputs of the step that ends; they are let go."""
        found, stream.inputs = stream.inputs or self._before_streams, None
        if not self._wanting() or self._wanting() == [stream]:
            self.stop()
        self._before_streams = []
        if not found and "inputs" in stream.wanted:
            found = [tensor.detach() for tensor in self._all.loaders.inputs]
        return found or None

    def _wanting(self) -> list[Stream]:
        return [stream for stream in self._all.streams if "inputs" in stream.wanted]
