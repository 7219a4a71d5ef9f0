"""The data loaders of a process: their settings, their epochs, and the batch that is in hand.

Whether a batch was for training or for evaluation is known only when it is used: at a backward, or
at a loss function without gradients. Until then it waits.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    DistributedSampler,
    RandomSampler,
    SequentialSampler,
    default_collate,
)

from vario.capture.held import held
from vario.capture.needs import Drawn
from vario.capture.rows import BatchSeen, RowsSeen, batch_tensors, hash_rows
from vario.capture.sketches import rows_to_show

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vario.capture.wild import Held

__all__ = ["Loaders"]

MOST_WAITING = 64
# Of training, whose rows are looked at: a hash of each of a batch takes 4 % of steps of 2 ms.
EPOCHS, BATCHES = 2, 1_000


@dataclass
class _Known:
    """One loader. `where` is its name in the record."""

    where: str
    epoch: int = -1
    batches: int = 0  # in this epoch
    hashed: int = 0  # batches that were for training
    before: int | None = None  # batches of the epoch before
    in_order: bool = False  # whether a batch holds its examples in the order in which they were drawn
    trains: bool = False
    alike: tuple[Any, ...] = ()  # of these another loader must share one with it to be taken for the same
    told: int = -1  # the last epoch that the record knows of
    began: int = 0  # steps that had been taken when this epoch began
    length: int | None = None

    @property
    def is_known(self) -> bool:
        """Whether training knows its rows, how often they come, and in which order."""
        return self.trains and self.epoch >= EPOCHS and self.hashed >= BATCHES


class Loaders:
    """Loaders by the order in which they were first iterated."""

    def __init__(self, tell: Callable[[str, str, dict[str, Any]], None]) -> None:
        self._tell = tell  # kind, where, data
        self._of_loader: weakref.WeakKeyDictionary[Any, _Known] = weakref.WeakKeyDictionary()
        self._of_iterator: weakref.WeakKeyDictionary[Any, _Known] = weakref.WeakKeyDictionary()
        self._waiting: list[tuple[_Known, int, int, NDArray[np.int64]]] = []
        self._all: list[_Known] = []
        self.rows = RowsSeen()
        self.hashing = True
        self.showing = False  # whether sketches are made of examples, so that their inputs are wanted
        self.current: _Known | None = None
        self._drawn: tuple[Any, Any] = (None, None)  # the batch in hand, and the numbers of its examples
        self.seen: BatchSeen | None = None  # of the last batch of training
        self.epochs_trained = 0

    @property
    def where(self) -> str:
        """The loader of the batch in hand; "" where there is none."""
        return self.current.where if self.current is not None else ""

    @property
    def batch(self) -> Any:
        """The batch in hand, as the loader gave it; None where there is none."""
        return self._drawn[0]

    @property
    def inputs(self) -> list[Tensor]:
        """What of the batch in hand goes into the model."""
        return _inputs(self._drawn[0])

    @property
    def examples(self) -> Held | None:
        """Which examples the batch in hand holds, if its loader says so."""
        indices = self._drawn[1]
        return (self.current.where, indices) if self.current and type(indices) is list else None

    @property
    def knows_all(self) -> bool:
        """Whether all rows of training have come by: an epoch is over, or there is no loader to say."""
        known = self.current
        if known is None or known.epoch > 0:
            return True
        return bool(known.length) and self.rows.count >= 0.95 * (known.length or 0)

    @property
    def in_hand(self) -> Drawn | None:
        """The examples of the batch in hand, where their order is known."""
        batch, indices = self._drawn
        if self.current is None or not self.current.in_order or not isinstance(indices, list):
            return None
        if not all(type(index) is int for index in indices):
            return None
        shown = rows_to_show(batch, self.inputs, len(indices)) if self.showing else ()
        return Drawn(self.current.where, indices, _targets(batch, len(indices)), shown)

    def started(self, loader: DataLoader[Any], iterator: Any, steps: int = 0) -> str:
        """A loader is iterated, again or for the first time, after so many steps; its name."""
        known = self._of_loader.get(loader) or self._made_anew(loader)
        self._of_loader[loader] = known
        if known.trains and known.told < known.epoch and known.began < steps:  # they passed unheard
            self.epochs_trained += 1
        known.began = steps
        known.epoch += 1
        known.before, known.batches = (known.batches or known.before), 0
        self._of_iterator[iterator] = known
        return known.where

    def _made_anew(self, loader: DataLoader[Any]) -> _Known:
        """An unknown loader: trainers make one for each evaluation, and it keeps the name of the first."""
        settings = _settings(loader)
        ways = [held(loader.dataset, by_content=way) for way in (False, True)]
        alike = tuple((holds, *settings.values()) for holds in ways)
        for known in self._all:
            if not known.trains and any(a == b for a, b in zip(known.alike, alike, strict=False)):
                return known
        known = _Known(f"loader {len(self._all)}", alike=alike, in_order=_keeps_order(loader))
        known.length = settings["length"]
        self._all.append(known)
        data = next(other.where for other in self._all if other.alike[0][0] == ways[0])
        self._tell("loader", known.where, {**settings, "data": data, "whole": _draws_from_all(loader)})
        return known

    def trains(self, where: str) -> bool:
        """Whether a batch of this loader has been trained on."""
        return any(known.trains for known in self._all if known.where == where)

    def came(self, iterator: Any, batch: Any, indices: Any) -> bool:
        """The next batch is in the script's hands; whether `look_at_rows` is to be called.

        So it is for every batch, also of steps of which nothing is wanted: this calls nothing of torch's.
        """
        self._drawn = batch, indices
        known = self.current = self._of_iterator.get(iterator)
        if known is None:
            return False
        known.batches += 1
        return self.hashing and not known.is_known

    def look_at_rows(self) -> None:
        """Of the batch in hand; what they are for is known later."""
        known, hashes = self.current, hash_rows(self.batch)
        if known is not None and hashes is not None:
            self._waiting.append((known, known.epoch, known.batches - 1, hashes))
            del self._waiting[:-MOST_WAITING]

    def used_for_training(self) -> None:
        """A backward begins: the batches in hand were for training."""
        known = self.current
        if known is None:
            return
        known.trains = True
        if known.told < known.epoch:
            known.told = known.epoch
            self.epochs_trained += 1
            self._tell("epoch", known.where, {"epoch": known.epoch, "batches_before": known.before})
        self.seen = None if known.is_known else self.seen
        for owner, epoch, position, hashes in self._waiting:
            if owner is known:
                known.hashed += 1
                self.seen = self.rows.train(known.where, epoch, position, hashes)
        self._waiting.clear()

    def used_for_evaluation(self) -> tuple[int, int]:
        """A loss was taken without gradients: (rows seen in training, rows) of the batches in hand."""
        seen = count = 0
        for owner, _, _, hashes in self._waiting:
            if owner is self.current and not owner.trains:
                these, rows = self.rows.evaluate(hashes)
                seen, count = seen + these, count + rows
        self._waiting = [waiting for waiting in self._waiting if waiting[0].trains]
        return seen, count

    def seen_in_hand(self) -> tuple[int, int]:
        """The same of the batch in hand alone, without counting it as used."""
        if not self._waiting or self._waiting[-1][0] is not self.current or self._waiting[-1][0].trains:
            return 0, 0
        return self.rows.evaluate(self._waiting[-1][3])

    def let_go(self) -> None:
        """Keep no tensor of the script's alive."""
        self._drawn = (None, None)


def _keeps_order(loader: DataLoader[Any]) -> bool:
    """A function of the user's may sort what it puts together, and hurried workers come as they please."""
    return loader.collate_fn is default_collate and getattr(loader, "in_order", True)


def _draws_from_all(loader: DataLoader[Any]) -> bool:
    """Whether its batches come from the whole data set, and not from a part that its sampler knows."""
    sampler, batches = loader.sampler, loader.batch_sampler
    source = getattr(sampler, "data_source", getattr(sampler, "dataset", None))
    known = type(sampler) in (RandomSampler, SequentialSampler, DistributedSampler)
    return known and source is loader.dataset and (batches is None or type(batches) is BatchSampler)


def _targets(batch: Any, count: int) -> Sequence[Tensor]:
    tensors = batch_tensors(batch)
    return [t for t in tensors if t.device.type == "cpu" and t.numel() == count and t.shape[:1] == (count,)]


def _settings(loader: DataLoader[Any]) -> dict[str, Any]:
    try:
        length: int | None = len(loader.dataset)  # type: ignore[arg-type]
    except (TypeError, AttributeError, NotImplementedError):
        length = None
    sampler = loader.sampler
    return {
        "sampler": type(sampler).__name__,
        "batch_sampler": type(loader.batch_sampler).__name__ if loader.batch_sampler is not None else None,
        "batch_size": loader.batch_size or getattr(loader.batch_sampler, "batch_size", None),
        "shuffle": isinstance(sampler, RandomSampler) or bool(getattr(sampler, "shuffle", False)),
        "replacement": bool(getattr(sampler, "replacement", False)),
        "length": length,
        "drop_last": bool(getattr(loader.batch_sampler, "drop_last", loader.drop_last)),
        "workers": loader.num_workers,
        "dataset": type(loader.dataset).__name__,
    }


def _inputs(batch: Any) -> list[Tensor]:
    """What of a batch goes into the model, as far as one can tell: not the target."""
    if isinstance(batch, dict):
        return [t for key, value in batch.items() if "label" not in str(key) for t in batch_tensors(value)]
    if isinstance(batch, (tuple, list)) and len(batch) > 1:
        return batch_tensors(batch[0])
    return batch_tensors(batch)
