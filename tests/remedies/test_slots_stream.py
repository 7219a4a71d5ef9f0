"""Test ``vario.remedies.slots_stream``: epochs one after another, and what each index counted when drawn."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import torch
from torch.utils.data import BatchSampler

from vario.remedies.slots_stream import Stream


class Counting:
    """Epochs 1, 2, ... of six indices; each index counts as much as its epoch."""

    epoch = 0
    told: tuple[object, object] = ((), ())

    def __iter__(self) -> Iterator[int]:
        self.epoch += 1
        yield from range(6)

    def weights(self, indices: list[int]) -> torch.Tensor:
        return torch.full((len(indices),), float(self.epoch))

    def update(self, indices: object, losses: object) -> None:
        self.told = (indices, losses)


def test_a_batch_that_holds_two_epochs_counts_each_as_drawn() -> None:
    stream = Stream(Counting(), 10**9)
    batches = islice(BatchSampler(stream, 4, drop_last=False), 4)
    drawn = [(batch, stream.weights(batch).tolist()) for batch in batches]
    assert drawn == [
        ([0, 1, 2, 3], [1.0] * 4),
        ([4, 5, 0, 1], [1.0, 1.0, 2.0, 2.0]),
        ([2, 3, 4, 5], [2.0] * 4),
        ([0, 1, 2, 3], [3.0] * 4),
    ]


def test_passes_go_on_where_the_one_before_ended_whatever_was_dropped() -> None:
    stream = Stream(Counting(), 7)
    passes = BatchSampler(stream, 3, drop_last=True)  # the seventh is drawn and dropped
    found = [[(batch, stream.weights(batch).tolist()) for batch in passes] for _ in range(2)]
    assert found[0] == [([0, 1, 2], [1.0] * 3), ([3, 4, 5], [1.0] * 3)]
    assert found[1] == [([1, 2, 3], [2.0] * 3), ([4, 5, 0], [2.0, 2.0, 3.0])]
    assert len(stream) == 7


def test_what_it_is_told_the_sampler_is_told() -> None:
    sampler = Counting()
    Stream(sampler, 5).update([3], torch.ones(1))
    assert sampler.told == ([3], torch.ones(1))
