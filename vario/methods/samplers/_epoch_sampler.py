"""A sampler of indices with one order per epoch: seeded, split over ranks, and resumable in mid-epoch.

The order of an epoch is drawn from (seed, epoch) and from what ``update`` was told before it, on every rank
alike, and then dealt out; no global random state is read. Every rank gets as many: ranks that wait for one
another in each step would hang at the end, so the first indices come again where the order does not go even.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Sampler


def drawn(weights: Tensor, count: int, draw: torch.Generator) -> Tensor:
    """``count`` indices in proportion to their weights, with replacement.

    By the inverse of the cumulated weights: ``torch.multinomial`` ends at 2^24 of them.
    """
    heaped = weights.double().cumsum(0)
    heights = torch.rand(count, generator=draw, dtype=torch.float64) * heaped[-1]
    return torch.searchsorted(heaped, heights, right=True).clamp(max=len(heaped) - 1)


class EpochSampler(Sampler[int]):
    """Subclasses return the indices of an epoch from ``_order`` and name their tensors in "
    "``_extra_state``."""

    def __init__(self, size: int, *, seed: int, rank: int, ranks: int) -> None:
        if size < 1 or not 0 <= rank < ranks:
            raise ValueError(
                f"{type(self).__name__}: size {size} must be at least 1 and rank {rank} in 0..{ranks - 1}."
            )
        self.size, self.seed, self.rank, self.ranks = size, seed, rank, ranks
        self.epoch = 0
        self.done = 0  # indices of this epoch that were handed out
        self.order: Tensor | None = None

    def set_epoch(self, epoch: int) -> None:
        """Start that epoch; what was learned by ``update`` goes into its order."""
        self.epoch, self.done, self.order = epoch, 0, None

    def _prepared(self) -> Tensor:
        if self.order is None:
            mixed = (self.seed * 0x9E3779B97F4A7C15 + self.epoch * 0xBF58476D1CE4E5B9) % 2**63
            order = self._order(torch.Generator().manual_seed(mixed))
            even = len(order) + -len(order) % self.ranks
            self.order = order[torch.arange(even) % max(len(order), 1)]
        return self.order

    def __iter__(self) -> Iterator[int]:
        mine = self._prepared()[self.rank :: self.ranks]
        if self.done >= len(mine):  # a loader that never calls set_epoch
            self.set_epoch(self.epoch + 1)
            mine = self._prepared()[self.rank :: self.ranks]
        for index in mine[self.done :].tolist():
            self.done += 1
            yield index

    def __len__(self) -> int:
        return len(self._prepared()) // self.ranks

    def _order(self, draw: torch.Generator) -> Tensor:
        raise NotImplementedError

    def _extra_state(self) -> dict[str, Tensor]:
        return {}

    def state_dict(self) -> dict[str, Any]:
        """Everything, tensors and numbers only. Loader workers draw ahead: save between epochs, or give
        ``load_state_dict`` the number of indices that were really used."""
        held = {name: value.clone() for name, value in self._extra_state().items()}
        return {"epoch": self.epoch, "done": self.done, "seed": self.seed, "order": self.order, **held}

    def load_state_dict(self, state: dict[str, Any], *, done: int | None = None) -> None:
        self.epoch, self.seed, self.order = state["epoch"], state["seed"], state["order"]
        self.done = state["done"] if done is None else done
        for name in self._extra_state():
            setattr(self, name, state[name].clone())
