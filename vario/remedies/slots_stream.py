"""A sampler's epochs as one stream, in passes of as many indices as the script's own sampler gave.

Scripts that draw with replacement go through the data in one pass without an end; others in passes that are
shorter than the data. What an example counts is noted when it is drawn, because one batch may hold examples
of two epochs.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import torch
from torch.utils.data import Sampler

__all__ = ["Stream"]


class Stream(Sampler[int]):
    """`draws` indices at each pass; each pass goes on where the one before ended."""

    def __init__(self, sampler: Any, draws: int) -> None:
        self.sampler, self.draws = sampler, draws
        self._epochs = self._indices()
        self._counts: deque[float] = deque()

    def __iter__(self) -> Iterator[int]:
        self._counts.clear()  # of a last batch that was dropped
        yield from islice(self._epochs, self.draws)

    def __len__(self) -> int:
        return self.draws

    def weights(self, indices: Sequence[int]) -> torch.Tensor:
        """What the examples that were drawn last, and are asked for first, counted when they were drawn."""
        return torch.tensor([self._counts.popleft() for _ in indices])

    def update(self, indices: Sequence[int], losses: torch.Tensor) -> None:
        """What the sampler is to learn."""
        self.sampler.update(indices, losses)

    def _indices(self) -> Iterator[int]:
        weigh = getattr(self.sampler, "weights", None)
        while True:
            order = list(self.sampler)
            counts = weigh(order).tolist() if weigh is not None else []
            for place, index in enumerate(order):
                self._counts.extend(counts[place : place + 1])
                yield index
