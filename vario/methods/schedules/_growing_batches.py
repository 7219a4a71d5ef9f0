"""Batches of indices whose size can change while the loader is running, and never shrinks."""

from __future__ import annotations

from collections.abc import Iterator, Sized
from typing import Any

from torch.utils.data import Sampler


class GrowingBatches(Sampler[list[int]]):
    """For ``DataLoader(batch_sampler=...)``; ``grow(size)`` takes effect at the next batch that is drawn.

    Loader workers draw ahead: a growth is seen ``num_workers * prefetch_factor`` batches later.
    """

    def __init__(self, sampler: Any, batch_size: int, *, largest: int | None = None) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}; a batch holds at least one example.")
        self.sampler = sampler
        self.batch_size = batch_size
        self.largest = largest or max(batch_size, len(sampler) if isinstance(sampler, Sized) else batch_size)

    def grow(self, size: float) -> int:
        """Raise the batch size towards ``size``, at most to ``largest``; return it."""
        self.batch_size = max(self.batch_size, min(self.largest, round(min(size, self.largest))))
        return self.batch_size

    def __iter__(self) -> Iterator[list[int]]:
        batch: list[int] = []
        for index in self.sampler:
            batch.append(index)
            if len(batch) >= self.batch_size:
                yield batch
                batch = []
        if batch:
            yield batch

    def __len__(self) -> int:
        return -(-len(self.sampler) // self.batch_size)

    def state_dict(self) -> dict[str, int]:
        return {"batch_size": self.batch_size}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.batch_size = state["batch_size"]
