"""Evaluations without a data loader: are they of rows that were trained on?

From `model.eval()`, or gradients that are switched off between two steps, until the next backward the model's
inputs are looked at. Rows of training are known from its loader, or, where it has none, from the inputs of
the steps that are measured: then from a part of them. How large a part the newest training batches show, of
which as many rows should be known.

Where no loss function of torch's is called either, it is an evaluation if the model is asked for the same
rows as once before: data made anew, or a choice among rows to be trained on, are others each time.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from vario.capture import hooks
from vario.capture.gradients_on import in_eval_mode
from vario.capture.rows import BatchSeen, hash_rows
from vario.capture.tables import Tables

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vario.capture.attach import Attachment

__all__ = ["TRAINED_ON", "WithoutLoader"]

TRAINED_ON = "training data"  # where an evaluation is told that is of rows of training
LEAST_ROWS = 60
# Of n rows of training a share c is known, give or take sqrt(c (1 - c) / n): two of these fit between it and
# half of it, where held-out rows begin, from c n / (1 - c) = 16 on.
APART = 16
MOST_ROWS = 4096  # of one loader in an evaluation
MOST_ASKED = 64  # evaluations that are remembered


class WithoutLoader:
    """Which rows the loss function without gradients is about, where no loader says so."""

    def __init__(self, attachment: Attachment, tell: Callable[[str, str, dict[str, Any]], None]) -> None:
        self._all = attachment
        self._tables = Tables(tell)
        self._stop: Callable[[], None] | None = None
        self._given: NDArray[np.int64] | None = None  # rows of the model's input since the last loss
        self._last: str | None = None  # where the last loss was told
        self._looked_at: Counter[str] = Counter()  # rows, by loader
        self._root = 0  # id of the module that was given them
        self._from = ""  # the loader whose batch was in hand then
        self._without_loss: list[tuple[str, NDArray[np.int64]]] = []  # both, of what no loss came of
        self._modes: dict[str, tuple[int, int]] | None = None  # when they were asked for again
        self._heard = False  # whether a loss function was
        self._with_gradients = False  # whether the last rows were given with gradients on
        self._asked: set[int] = set()  # the rows that evaluations without a loss began with
        self._maybe = False  # whether nothing but gradients that are off speaks for an evaluation
        self._known: deque[tuple[int, int]] = deque(maxlen=10)  # of batches of training: rows known, rows

    def trained(self, inputs: list[Tensor] | None) -> BatchSeen | None:
        """What is known of the model's inputs of a training step; of a loader's batch it says so."""
        hashes, loaders = hash_rows(inputs) if inputs else None, self._all.loaders
        if hashes is not None and len(hashes):
            look = loaders.rows.evaluate if loaders.current is not None else loaders.rows.given
            self._known.append(look(hashes))
        if loaders.current is not None or not inputs:
            return loaders.seen
        return BatchSeen(twice_share=self._tables.twice(inputs, hashes))

    def evaluates(self) -> None:
        """A model was put into eval mode."""
        self._all.awake = True  # the next backward ends it
        self._maybe = False
        self._listen()

    def opened(self) -> None:
        """Gradients were switched off: between two steps that may be for an evaluation."""
        if self._stop is None and self._all.gathered.batches.closed and self._all.inside is None:
            self._maybe = True
            self._listen()

    def loader_started(self, where: str) -> None:
        """A loader begins: between two steps one that has never trained may be for an evaluation."""
        self._all.gradients_on.tell()
        if self._all.streams and not self._all.loaders.trains(where):
            self._all.awake = True
            self.opened()

    def closed(self) -> None:
        """They are as they were: no evaluation, where no model of ours was asked."""
        if self._maybe and self._given is None and self._last is None:
            self.stop()

    def _listen(self) -> None:
        if self._stop is None and self._all.streams:
            self._looked_at.clear()
            self._stop = self._all.doors.ours(
                lambda: hooks.listen_to_forward(lambda *heard: self._all.hear("evaluated_on", *heard))
            )

    def evaluated_on(self, module: nn.Module, arguments: Any) -> None:
        """A module is called; the first of them since the last loss is given the rows themselves."""
        if (torch.is_grad_enabled() and module.training) or torch.compiler.is_compiling():
            return
        if self._given is not None:
            if id(module) != self._root:
                return
            self._all.answers.evaluates(module)
            if self._looked_at[self._all.loaders.where] > MOST_ROWS:
                return
            self._without_loss.append((self._from, self._given))
        if any(stream.is_asked(module) for stream in self._all.streams):
            if self._given is None:
                self._all.answers.evaluates(module)
            self._given, self._root = hash_rows(arguments), id(module)
            self._from = self._all.loaders.where
            self._with_gradients = torch.is_grad_enabled()
            self._looked_at[self._from] += 0 if self._given is None else len(self._given)
            if self._modes is None and self._given is not None and _begin(self._given) in self._asked:
                self._modes = self._all.modes()

    def loss_called(self, examples: int) -> tuple[str, float, float]:
        """Where to tell of this loss of so many `examples`, how many training had seen, and of how many.

        What the loaders say stands where they know of any rows. Of all rows given since the last loss it is
        about those given last of as many as it has, else about the first.
        """
        self._heard = True
        where, (seen, rows) = self._all.loaders.where, self._all.loaders.used_for_evaluation()
        given, self._given = (*(rows for _, rows in self._without_loss), self._given), None
        as_many = [rows for rows in given if rows is not None and len(rows) == examples]
        hashes = [given[0], *as_many][-1]
        self._without_loss.clear()
        if self._looked_at[where] > MOST_ROWS:
            self.stop()
        if rows:
            return where, seen, rows
        if hashes is None:  # a second loss of the same outputs
            return self._last or where, 0, 0
        share, of = self._seen(hashes)
        # Of what was trained on nearly all would be known, of what was not nearly none.
        self._last = TRAINED_ON if share > 0.5 else where
        return self._last, of if share > 0.5 else share * of, of

    def told_elsewhere(self) -> None:
        """A loss of the rows that were given is told where their loader says."""
        self._heard, self._given = True, None
        self._without_loss.clear()

    def stop(self) -> None:
        """Training goes on: the inputs are not looked at any more."""
        self._all.gradients_on.tell()
        told = self._all.answers.over(heard=self._heard)
        if self._given is not None and not told:
            parts = [*self._without_loss, (self._from, self._given)]
            # A model that is trained in eval mode was given the last of them for the backward that ends this.
            own = self._with_gradients and in_eval_mode(self._all.streams)
            self._told_without_loss(parts[:-1] if own else parts)
        self._heard = False
        self._without_loss.clear()
        self._given = self._last = self._modes = None
        if self._stop is not None:
            self._stop()
            self._stop = None

    def _told_without_loss(self, parts: list[tuple[str, NDArray[np.int64]]]) -> None:
        """Rows that the model was asked for: an evaluation where it was asked for them once before."""
        if not parts:
            return
        if self._modes is None:
            self._asked |= {_begin(parts[0][1])} if len(self._asked) < MOST_ASKED else set()
            return
        if len(self._all.streams) != 1:
            return
        for loader in dict.fromkeys(loader for loader, _ in parts):
            rows = np.concatenate([given for of, given in parts if of == loader])
            seen, of = self._seen(rows)
            if len(rows) < LEAST_ROWS or not of:
                continue
            where, share = (TRAINED_ON, 1.0) if seen > 0.5 else (loader, seen)
            if where != TRAINED_ON or self._tables.found:  # with a table, whether it is all of the rows
                self._all.evaluation.asked(where, len(rows), share, of, self._modes)

    def _seen(self, hashes: NDArray[np.int64]) -> tuple[float, float]:
        """The share of these rows that was trained on, and of how many rows a share would be as uncertain.

        Of none where they are too few, or too little of training is known.
        """
        known, told_by = self._known_share()
        seen, rows = self._all.loaders.rows.evaluate(hashes)
        of = known / (1 / rows + (1 - known) / told_by) if known and rows else 0.0
        return (min(seen / rows / known, 1.0), of) if of and of >= APART * (1 - known) else (0.0, 0.0)

    def _known_share(self) -> tuple[float, int]:
        """Of the newest batches, as many as say enough (what is known grows); and how many rows they have."""
        known = rows = 0
        for mine, all_of_them in reversed(self._known):
            known, rows = known + mine, rows + all_of_them
            if rows >= LEAST_ROWS:
                return (known / rows if self._all.loaders.knows_all else 0.0), rows
        return 0.0, rows


def _begin(rows: NDArray[np.int64]) -> int:
    return hash(rows.tobytes())
