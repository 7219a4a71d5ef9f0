"""Small tensors that are laid end to end, so that one call serves all of them.

On an accelerator a launch costs more than the arithmetic of a small tensor: two thousand of them took
five times as long as the step that they measured. On a processor nothing is joined: the copy would cost more.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Segments", "alone_or_joined"]

SMALL = 1 << 18  # entries: one block of threads sums a segment
ROOM = 1 << 23  # entries that are joined at most: 32 MB of float32


@dataclass(frozen=True, slots=True)
class Segments:
    """Tensors end to end; ``lengths`` are the entries of each."""

    lengths: tuple[int, ...]
    device: torch.device

    def sums(self, joined: Tensor) -> Tensor:
        """The sum of each segment."""
        return self._each(joined, "sum")

    def ends(self, joined: Tensor) -> tuple[Tensor, Tensor]:
        """The least and the largest entry of each segment."""
        return self._each(joined, "min"), self._each(joined, "max")

    def counts(self) -> Tensor:
        """The entries of each segment, on the device."""
        return _on_device(self.lengths, self.device)

    def spread_out(self, values: Tensor) -> Tensor:
        """Each value as often as its segment has entries."""
        return values.repeat_interleave(self.counts(), output_size=sum(self.lengths))

    def _each(self, joined: Tensor, reduce: str) -> Tensor:
        found: Tensor = torch.segment_reduce(joined, reduce, lengths=self.counts(), unsafe=True)
        return found


def alone_or_joined(tensors: Sequence[Tensor], *, always: bool = False) -> tuple[list[int], list[list[int]]]:
    """Indices of the tensors that are read one by one, and groups of indices that are joined.

    A group is of one type on one device. ``always``: on a processor too, where it does not pay.
    """
    alone: list[int] = []
    groups: list[list[int]] = []
    room: dict[tuple[torch.device, torch.dtype], tuple[list[int], int]] = {}
    for index, tensor in enumerate(tensors):
        size, key = tensor.numel(), (tensor.device, tensor.dtype)
        if size > SMALL or (tensor.device.type == "cpu" and not always):
            alone.append(index)
            continue
        group, left = room.get(key, ([], 0))
        if size > left:
            group, left = [], ROOM
            groups.append(group)
        group.append(index)
        room[key] = group, left - size
    return alone, groups


@functools.lru_cache(maxsize=64)
def _on_device(lengths: tuple[int, ...], device: torch.device) -> Tensor:
    """Kept, because making it waits for the device, and the tensors of a model keep their sizes."""
    return torch.tensor(lengths, device=device)
