"""Test ``vario.capture.loaders``: what an epoch says of the one before it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, RandomSampler, Subset, SubsetRandomSampler, TensorDataset

from vario.capture.loaders import Loaders


def test_an_epoch_tells_how_many_batches_the_one_before_it_gave() -> None:
    told: list[tuple[str, dict[str, Any]]] = []
    loaders = Loaders(lambda kind, where, data: told.append((kind, data)))
    loader = DataLoader(TensorDataset(torch.randn(10, 3)), batch_size=4)
    for give in (3, 2, 3):
        iterator = iter(loader)
        loaders.started(loader, iterator)
        for _ in range(give):
            loaders.came(iterator, next(iterator), None)
            loaders.used_for_training()
    epochs = [data for kind, data in told if kind == "epoch"]
    assert [data["batches_before"] for data in epochs] == [None, 3, 2]


def test_an_epoch_whose_steps_passed_unheard_is_counted_and_a_pass_without_steps_is_not() -> None:
    loaders = Loaders(lambda kind, where, data: None)
    loader = DataLoader(TensorDataset(torch.randn(10, 3)), batch_size=5)
    taken = 0
    for heard, steps in ((True, 2), (False, 2), (False, 0), (True, 2), (False, 2), (False, 0)):
        iterator = iter(loader)
        loaders.started(loader, iterator, taken)
        for _ in range(2):
            loaders.came(iterator, next(iterator), None)
            if heard:
                loaders.used_for_training()
        taken += steps
    assert loaders.epochs_trained == 4


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


def test_two_loaders_of_one_whole_data_set_are_told_as_such_and_parts_of_it_are_not() -> None:
    told: dict[str, dict[str, Any]] = {}
    loaders = Loaders(lambda kind, where, data: told.update({where: data}))
    rows = TensorDataset(torch.randn(40, 3))
    part = SubsetRandomSampler(range(30))
    several = [
        DataLoader(rows, batch_size=5, shuffle=True),
        DataLoader(rows, batch_size=8),
        DataLoader(rows, batch_size=5, sampler=part),
        DataLoader(rows, batch_sampler=[[0, 1], [2, 3]]),
        DataLoader(rows, batch_size=4, sampler=RandomSampler(range(7))),
        DataLoader(Subset(rows, range(20)), batch_size=5),
        DataLoader(Subset(rows, range(20, 40)), batch_size=5),
        DataLoader(rows, batch_size=4, sampler=RandomSampler(rows, replacement=True, num_samples=9)),
    ]
    names = [loaders.started(loader, iter(loader)) for loader in several]
    said = [(told[name]["data"], told[name]["whole"]) for name in names]
    first = names[0]
    parts = [(first, False)] * 3 + [(names[5], True), (names[6], True)]
    assert said == [(first, True), (first, True), *parts, (first, True)]


def test_rows_are_hashed_until_training_knows_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vario.capture.loaders.BATCHES", 8)
    loaders = Loaders(lambda kind, where, data: None)
    rows = TensorDataset(torch.arange(40.0).reshape(20, 2).repeat_interleave(2, 0).reshape(20, 4))
    loader, unseen = (
        DataLoader(rows, batch_size=10),
        DataLoader(TensorDataset(torch.ones(10, 4)), batch_size=5),
    )

    def epoch(of: DataLoader[Any], *, trained: bool) -> list[Any]:
        iterator, found = iter(of), []
        loaders.started(of, iterator)
        for _ in range(2):
            if loaders.came(iterator, next(iterator), None):
                loaders.look_at_rows()
            if trained:
                loaders.used_for_training()
            found.append(loaders.seen if trained else loaders.used_for_evaluation())
        return found

    for known in range(4):  # two epochs would do, but 8 batches are asked for
        first, second = epoch(loader, trained=True)
        assert first is not None and second.same_order == (None if known == 0 else 1.0)
    assert epoch(loader, trained=True) == [None, None]
    assert epoch(unseen, trained=False) == [(0, 5), (0, 5)]  # what is evaluated always is
    assert epoch(DataLoader(rows, batch_size=8), trained=False) == [(8, 8), (8, 8)]
