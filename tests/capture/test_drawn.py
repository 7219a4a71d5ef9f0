"""Test ``vario.capture.drawn``: which examples a step was about, through a real loader, or nothing."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain, islice
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from torch.utils.data import DataLoader, IterableDataset, Subset, TensorDataset, default_collate

from tests.capture.test_alive import Deaf
from vario.capture.attach import Attachment
from vario.capture.moment import Moment
from vario.instruments.worst_examples import WorstExamples

CLASSES = 50
DATA = TensorDataset(torch.eye(CLASSES), torch.arange(CLASSES))  # the class of example i is i
WRONG = (7, 31)  # their loss is the largest


class Reads(Deaf):
    """Reads the worst examples of every step."""

    def __init__(self) -> None:
        self.found: list[dict[str, Any]] = []

    def wants(self, stream: Any) -> frozenset[str]:
        return frozenset({"loss_calls"})

    def at_gradient(self, stream: Any, raw: Any) -> None:
        self.found.append({r.series: r.value for r in WorstExamples().read(Moment("", 0, raw))})


@contextmanager
def reading() -> Iterator[list[dict[str, Any]]]:
    observer = Reads()
    attachment = Attachment(observer)  # type: ignore[arg-type]
    try:
        yield observer.found
    finally:
        attachment.detach()


def train(
    *passes: Any, change: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] = lambda x, y: (x, y)
) -> None:
    model = nn.Linear(CLASSES, CLASSES, bias=False)
    with torch.no_grad():
        model.weight.copy_(5 * torch.eye(CLASSES))
        model.weight[list(WRONG)] = 0
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    for x, y in chain(*passes):
        x, y = change(x, y)
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()


def worst(found: list[dict[str, Any]]) -> list[int]:
    """The examples whose loss is that of WRONG, over all steps."""
    return [
        int(example)
        for step in found
        for example, loss in zip(step.get("worst/example", []), step.get("worst/loss", []), strict=True)
        if loss > 2
    ]


def begun(loader: Any) -> Iterator[Any]:
    yield from islice(loader, 2)


@pytest.mark.parametrize("workers", [0, 2])
def test_shuffled_batches_name_their_examples(workers: int) -> None:
    loader = DataLoader(DATA, batch_size=8, shuffle=True, num_workers=workers, persistent_workers=workers > 0)
    with reading() as found:
        train(loader, begun(loader), loader)  # workers have fetched more than was used
    assert sorted(worst(found[:7])) == sorted(worst(found[9:])) == list(WRONG)
    examples = [x for step in found[:7] for x in step["worst/example"] if not math.isnan(x)]
    assert sorted(examples) == list(range(CLASSES))
    assert all(step["worst/example"][0] == step["worst/target"][0] for step in found)


class Broken(TensorDataset):
    def __getitem__(self, index: int) -> Any:
        if index == 12:
            raise OSError("cannot be read")
        return super().__getitem__(index)


def what_can_be_read(loader: DataLoader[Any]) -> Iterator[Any]:
    batches = iter(loader)
    while True:
        try:
            yield next(batches)
        except OSError:
            continue
        except StopIteration:
            return


@pytest.mark.parametrize("workers", [0, 2])
def test_a_batch_that_cannot_be_made_leaves_the_others_their_numbers(workers: int) -> None:
    with reading() as found:
        train(what_can_be_read(DataLoader(Broken(*DATA.tensors), batch_size=8, num_workers=workers)))
    assert len(found) == 6
    assert sorted(worst(found)) == list(WRONG)
    assert all(step["worst/example"][0] == step["worst/target"][0] for step in found)


def test_numbers_are_those_of_the_loaders_own_data_set() -> None:
    with reading() as found:
        train(DataLoader(Subset(DATA, [40, 31, 2, 7]), batch_size=4))
    assert sorted(worst(found)) == [1, 3]


def sorted_by_class(batch: list[Any]) -> Any:
    return default_collate(sorted(batch, key=lambda pair: -int(pair[1])))


def test_silent_where_the_order_is_the_users() -> None:
    with reading() as found:
        train(DataLoader(DATA, batch_size=8, collate_fn=sorted_by_class))
    assert found and not worst(found)


@pytest.mark.parametrize(
    "change",
    [lambda x, y: (x.flip(0), y.flip(0)), lambda x, y: (x[1:], y[1:]), lambda x, y: (x, (y + 1) % CLASSES)],
    ids=["mixed", "dropped", "relabelled"],
)
def test_silent_where_the_script_changes_the_batch(change: Any) -> None:
    with reading() as found:
        train(DataLoader(DATA, batch_size=8), change=change)
    assert found and not worst(found)


class Stream(IterableDataset):  # type: ignore[type-arg]
    def __iter__(self) -> Iterator[Any]:
        return iter(list(DATA))


def test_silent_without_numbers_or_without_a_loader() -> None:
    with reading() as found:
        train(DataLoader(Stream(), batch_size=8), [DATA[:]])
    assert len(found) == 8 and not worst(found)


def test_examples_of_a_regression_are_named() -> None:
    x = torch.arange(20.0).reshape(-1, 1)
    y = 2 * x.double()
    y[5] = 100.0
    loader = DataLoader(TensorDataset(x, y), batch_size=20, shuffle=True)
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, 2.0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    with reading() as found:
        for a, b in chain(loader, loader):
            optimizer.zero_grad()
            F.mse_loss(model(a), b.float()).backward()
            optimizer.step()
    assert worst(found[1:]) == [5]
    assert "worst/guess" not in found[1]


@pytest.mark.parametrize(("copied", "size", "named"), [(False, 2, True), (True, 2, False), (True, 10, True)])
def test_targets_that_were_copied_must_not_be_equal_by_chance(copied: bool, size: int, named: bool) -> None:
    """As on an accelerator, where the loss function is given copies."""
    with reading() as found:
        train(DataLoader(DATA, batch_size=size), change=lambda x, y: (x, y.clone() if copied else y))
    assert sorted(worst(found[1:])) == (list(WRONG) if named and size == 2 else [31] if named else [])
