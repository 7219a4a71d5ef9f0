"""Which rows of the data training has met before, known by a hash of each and in bounded memory.

When there are too many hashes to keep, only those divisible by 2, then by 4, ... are kept. Which rows
these are depends on nothing but their content, so shares taken over them are unbiased.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["BatchSeen", "RowsSeen", "batch_tensors", "hash_rows"]

MOST_HASHES = 1 << 18
MOST_ENTRIES = 128  # of a row, evenly spaced: enough to tell rows apart
FEW_ENTRIES = 4  # rows of fewer are hashed together with their target


def _scattered(count: int) -> NDArray[np.int64]:
    """Odd numbers without order (splitmix64): to load numpy.random takes a sixth of the time of attaching."""
    x = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        x = (x ^ (x >> np.uint64(shift))) * np.uint64(factor)
    return (x ^ (x >> np.uint64(31))).view(np.int64) | 1


_FACTORS = _scattered(MOST_ENTRIES)


@dataclass(frozen=True, slots=True)
class BatchSeen:
    """Shares of a batch's rows seen earlier; `same_order` is None in the first epoch.

    Without a loader there are no epochs: all that is known is the share that is in the batch `twice`.
    """

    duplicate_share: float | None = None
    repeat_share: float | None = None
    same_order: float | None = None
    twice_share: float | None = None


@dataclass
class _Loader:
    epoch: int = -1
    now: set[int] = field(default_factory=set)
    order: dict[int, int] = field(default_factory=dict)  # position: hash of the whole batch
    order_before: dict[int, int] = field(default_factory=dict)


class RowsSeen:
    """The memory of all training loaders of a process."""

    def __init__(self, most: int = MOST_HASHES) -> None:
        self._most = most
        self._divisor = 1
        self._before: set[int] = set()  # of all earlier epochs
        self._loaders: dict[str, _Loader] = {}

    def train(self, loader: str, epoch: int, position: int, hashes: NDArray[np.int64]) -> BatchSeen:
        """Take in a batch of training; what of it had been seen."""
        this = self._loaders.setdefault(loader, _Loader())
        if epoch != this.epoch:
            self._before |= this.now
            this.epoch, this.now, this.order_before, this.order = epoch, set(), this.order, {}
        whole = hash(hashes.tobytes())
        before = this.order_before.get(position)
        if len(this.order) < self._most:
            this.order[position] = whole
        kept = self._kept(hashes)
        different, count = set(kept), len(kept)
        duplicates = count - len(different - this.now)
        repeats = 0 if different.isdisjoint(self._before) else sum(row in self._before for row in kept)
        this.now |= different
        self._bound()
        return BatchSeen(
            duplicates / count if count else None,
            repeats / count if count and (self._before or epoch) else None,
            None if before is None else float(before == whole),
        )

    def given(self, hashes: NDArray[np.int64]) -> tuple[int, int]:
        """Take in rows of training that no loader gave; how many of them were known, and of how many."""
        kept = self._kept(hashes)
        known = sum(row in self._before for row in kept)
        self._before.update(kept)
        self._bound()
        return known, len(kept)

    @property
    def count(self) -> int:
        """About how many different rows are known."""
        known = self._before.union(*(loader.now for loader in self._loaders.values()))
        return len(known) * self._divisor

    def evaluate(self, hashes: NDArray[np.int64]) -> tuple[int, int]:
        """How many rows of an evaluated batch were seen in training, and of how many."""
        kept = self._kept(hashes)
        trained = [self._before, *(loader.now for loader in self._loaders.values())]
        return sum(any(row in rows for rows in trained) for row in kept), len(kept)

    def _kept(self, hashes: NDArray[np.int64]) -> list[int]:
        kept: list[int] = (
            hashes[hashes % self._divisor == 0].tolist() if self._divisor > 1 else hashes.tolist()
        )
        return kept

    def _bound(self) -> None:
        while len(self._before) + sum(len(loader.now) for loader in self._loaders.values()) > self._most:
            self._divisor *= 2
            self._before = {row for row in self._before if row % self._divisor == 0}
            for loader in self._loaders.values():
                loader.now = {row for row in loader.now if row % self._divisor == 0}


def batch_tensors(batch: Any) -> list[Tensor]:
    """The tensors of a batch in order, out of tuples, lists and mappings."""
    if isinstance(batch, Tensor):
        return [batch]
    if isinstance(batch, Mapping):
        return [tensor for value in batch.values() for tensor in batch_tensors(value)]
    if isinstance(batch, Sequence) and not isinstance(batch, (str, bytes)) and len(batch) <= 100:
        return [tensor for value in batch for tensor in batch_tensors(value)]
    return []


def hash_rows(batch: Any) -> NDArray[np.int64] | None:
    """A hash of each row of the batch's first tensor; None where it is not in main memory.

    Of floating ones of its shape as well: a pair of images is another one when one of the two is. Beside
    categories or words the numbers that stand in the same rows belong to them.
    Nor where no other tensor has as many rows: the words of all examples in one row are no examples.
    """
    tensors = [tensor for tensor in batch_tensors(batch) if _readable(tensor)]
    if not tensors:
        return None
    count = tensors[0].shape[0]
    if len(tensors) > 1 and all(tensor.shape[0] != count for tensor in tensors[1:]):
        return None
    few = tensors[0].numel() < FEW_ENTRIES * count
    sums = np.zeros(count, np.int64)
    for tensor in [tensors[0], *(t for t in tensors[1:] if _belongs(t, tensors[0], few))]:
        entries = _entries(tensor)
        sums = sums * _FACTORS[-1] + entries @ _FACTORS[: entries.shape[1]]  # wraps around, as intended
    mixed: NDArray[np.int64] = sums ^ (sums >> 29)  # so that the low bits depend on all
    return mixed


def _belongs(tensor: Tensor, first: Tensor, few: bool) -> bool:
    """Whether a row is this tensor's as much as the first one's."""
    if few:
        return tensor.shape[0] == first.shape[0]
    if first.is_floating_point():
        return tensor.shape == first.shape
    return tensor.is_floating_point() and tensor.dim() > 1 and tensor.shape[0] == first.shape[0]


def _readable(tensor: Tensor) -> bool:
    return (
        tensor.dim() > 0
        and tensor.numel() > 0
        and tensor.device.type == "cpu"
        and tensor.layout == torch.strided
    )


def _entries(tensor: Tensor) -> NDArray[np.int64]:
    """Evenly spaced entries of each row as whole numbers, by their bits."""
    tensor = tensor.detach()
    if tensor.dtype == torch.bfloat16:
        tensor = tensor.view(torch.int16)
    flat = tensor.numpy().reshape(tensor.shape[0], -1)
    flat = flat[:, :: -(-flat.shape[1] // MOST_ENTRIES)]
    if flat.dtype.kind == "c":
        flat = flat.real
    bits = {2: np.int16, 4: np.int32, 8: np.int64}.get(flat.dtype.itemsize)
    if flat.dtype.kind == "f" and bits is not None:
        flat = np.ascontiguousarray(flat).view(bits)
    whole = flat.astype(np.int64)
    # The last 52 bits of 1.0 are zeros: a product with them would keep twelve bits of its factor.
    return whole ^ (whole >> 32) if bits == np.int64 else whole
