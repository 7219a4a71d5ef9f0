"""Test ``vario.capture.loaders``: what an epoch says of the one before it."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils.data import DataLoader, TensorDataset

from vario.capture.loaders import Loaders


def test_an_epoch_tells_how_many_batches_the_one_before_it_gave() -> None:
    told: list[tuple[str, dict[str, Any]]] = []
    loaders = Loaders(lambda kind, where, data: told.append((kind, data)))
    loader = DataLoader(TensorDataset(torch.randn(10, 3)), batch_size=4)
    for give in (3, 2, 3):
        iterator = iter(loader)
        loaders.started(loader, iterator)
        for _ in range(give):
            loaders.came(iterator, next(iterator))
            loaders.used_for_training()
    epochs = [data for kind, data in told if kind == "epoch"]
    assert [data["batches_before"] for data in epochs] == [None, 3, 2]


def test_the_same_rows_in_a_new_data_set_are_the_same_loader_and_other_rows_another() -> None:
    loaders = Loaders(lambda kind, where, data: None)
    rows = torch.randn(20, 3)

    def evaluated(part: slice, in_place: bool) -> str:
        loader = DataLoader(TensorDataset(rows[part] if in_place else rows[part].clone()), batch_size=5)
        return loaders.started(loader, iter(loader))

    first, last = slice(0, 10), slice(10, 20)
    for in_place in (True, False):
        names = [evaluated(part, in_place) for part in (first, last, first, last)]
        assert names == ["loader 0", "loader 1"] * 2
