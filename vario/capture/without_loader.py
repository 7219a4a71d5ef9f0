"""Evaluations without a data loader: are they of rows that were trained on?

From `model.eval()` until the next backward the model's inputs are looked at. Rows of training are known from
its loader, or, where it has none, from the inputs of the steps that are measured: then from a part of them.
How large a part the training batches themselves show, of which as many rows should be known.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from vario.capture import hooks
from vario.capture.rows import BatchSeen, hash_rows
from vario.capture.tables import Tables

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from vario.capture.attach import Attachment

__all__ = ["TRAINED_ON", "WithoutLoader"]

TRAINED_ON = "training data"  # where an evaluation is told that is of rows of training
LEAST_KNOWN = 0.6  # of training: with less, a part that leaked cannot be told from a part that is known
LEAST_ROWS = 60
MOST_ROWS = 4096  # of one evaluation


class WithoutLoader:
    """Which rows the loss function without gradients is about, where no loader says so."""

    def __init__(self, attachment: Attachment, tell: Callable[[str, str, dict[str, Any]], None]) -> None:
        self._all = attachment
        self._tables = Tables(tell)
        self._stop: Callable[[], None] | None = None
        self._given: NDArray[np.int64] | None = None  # rows of the model's input since the last loss
        self._last: str | None = None  # where the last loss was told
        self._looked_at = 0
        self._known: deque[tuple[int, int]] = deque(maxlen=10)  # of batches of training: rows known, rows

    def trained(self, inputs: list[Tensor] | None) -> BatchSeen | None:
        """What is known of the model's inputs of a training step; of a loader's batch it says so."""
        hashes, loaders = hash_rows(inputs) if inputs else None, self._all.loaders
        if hashes is not None and len(hashes):
            look = loaders.rows.evaluate if loaders.current is not None else loaders.rows.given
            self._known.append(look(hashes))
        if loaders.current is not None or not inputs:
            return loaders.seen
        return BatchSeen(twice_share=self._tables.twice(inputs))

    def evaluates(self) -> None:
        """A model was put into eval mode."""
        self._all.awake = True  # the next backward ends it
        if self._stop is None and self._all.streams and not self._all.inputs.is_compiled:
            self._looked_at = 0
            self._stop = self._all.doors.ours(
                lambda: hooks.listen_to_forward(lambda *heard: self._all.hear("evaluated_on", *heard))
            )

    def evaluated_on(self, module: nn.Module, arguments: Any) -> None:
        """A module is called; the first of them since the last loss is given the rows themselves."""
        if self._given is not None or torch.is_grad_enabled() or torch.compiler.is_compiling():
            return
        if any(id(module) in stream.module_ids for stream in self._all.streams):
            self._given = hash_rows(arguments)
            self._looked_at += 0 if self._given is None else len(self._given)

    def loss_called(self, where: str, seen: int, rows: int) -> tuple[str, int, int]:
        """Where to tell of this loss, how many of its rows training had seen, and of how many.

        The arguments are what the loaders say, which stands where they know of any rows.
        """
        hashes, self._given = self._given, None
        if self._looked_at > MOST_ROWS:
            self.stop()
        if rows:
            return where, seen, rows
        if hashes is None:  # a second loss of the same outputs
            return self._last or where, 0, 0
        known = self._known_share()
        seen, rows = self._all.loaders.rows.evaluate(hashes) if known >= LEAST_KNOWN else (0, 0)
        share = min(seen / rows / known, 1.0) if rows else 0.0
        # Of what was trained on nearly all would be known, of what was not nearly none.
        self._last = TRAINED_ON if share > 0.5 else where
        return self._last, rows if share > 0.5 else round(share * rows), rows

    def stop(self) -> None:
        """Training goes on: the inputs are not looked at any more."""
        self._given = self._last = None
        if self._stop is not None:
            self._stop()
            self._stop = None

    def _known_share(self) -> float:
        known, rows = (sum(column) for column in zip(*self._known, strict=True)) if self._known else (0, 0)
        enough = rows >= LEAST_ROWS and self._all.loaders.knows_all
        return known / rows if enough else 0.0
