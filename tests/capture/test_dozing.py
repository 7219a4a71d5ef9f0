"""Steps of which nothing is wanted pass untold, and are still counted."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD
from torch.utils.data import DataLoader

from vario.capture.attach import Attachment
from vario.capture.streams import Stream
from vario.nouns import Reading


class EveryTenth:
    """Wants the losses of every tenth step and lets all others pass."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.steps: list[tuple[str, int]] = []
        self.losses: list[int] = []
        self.told = 0
        self.untold = 0
        self.happened: list[tuple[int, str]] = []
        self.read: list[int] = []
        self.failures: list[str] = []

    def began(self, stream: Stream) -> None:
        self.begun.append(stream.name)

    def wants(self, stream: Stream) -> frozenset[str]:
        return frozenset() if stream.step % 10 else frozenset({"losses"})

    def idle_steps(self, stream: Stream) -> int:
        return -stream.step % 10

    def passed(self, stream: Stream, steps: int) -> None:
        self.untold += steps

    def at_gradient(self, stream: Stream, raw: Any) -> None:
        if "losses" in raw:
            self.steps.append((stream.name, stream.step))
            self.losses.append(len(raw["losses"]))

    def stepped(self, stream: Stream, raw: Any) -> None:
        self.told += 1

    def readings(self, stream: Stream, readings: list[Reading]) -> None:
        self.read.append(stream.step)

    def event(self, stream: Stream, kind: str, where: str, data: dict[str, Any]) -> None:
        self.happened.append((stream.step, kind))

    def failed(self, place: str, error: Exception) -> None:
        self.failures.append(f"{place}: {error!r}")


@contextmanager
def attached() -> Iterator[tuple[EveryTenth, Attachment]]:
    observer = EveryTenth()
    attachment = Attachment(observer)
    try:
        yield observer, attachment
    finally:
        attachment.detach()
        assert not observer.failures


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> None:
    for _ in range(steps):
        optimizer.zero_grad()
        loss: Tensor = nn.functional.mse_loss(model(torch.ones(4, 3)), torch.zeros(4, 1))
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()


def pair() -> tuple[nn.Module, SGD]:
    model = nn.Linear(3, 1)
    return model, SGD(model.parameters(), lr=0.01)


def test_wanted_steps_are_told_with_their_numbers_and_the_others_are_counted() -> None:
    with attached() as (observer, attachment):
        train(*pair(), 57)
    assert [step for _, step in observer.steps] == [0, 10, 20, 30, 40, 50]
    assert observer.told == 6 and observer.untold == 51
    assert attachment.streams[0].step == 57


def test_what_happens_meanwhile_belongs_to_its_step() -> None:
    with attached() as (observer, attachment):
        model, optimizer = pair()
        train(model, optimizer, 14)
        attachment.printed("accuracy", 0.5)
        train(model, optimizer, 3)
        attachment.compiled(model)
        train(model, optimizer, 3)
    assert observer.read == [14]
    assert (17, "compiled") in observer.happened
    assert observer.told + observer.untold == 20


def test_an_evaluation_meanwhile_does_not_gather_the_losses_of_steps_that_pass() -> None:
    """It is awake to see the pass end; the steps after it pass all the same, none a part of another."""
    with attached() as (observer, attachment):
        model, optimizer = pair()
        for _ in range(5):
            train(model, optimizer, 13)
            with torch.no_grad():
                nn.functional.mse_loss(model(torch.ones(4, 3)), torch.zeros(4, 1))
            next(iter(DataLoader([0.0])))  # type: ignore[arg-type]  # the next epoch closes the pass
    assert observer.losses == [1] * 7
    assert observer.told + observer.untold == attachment.streams[0].step == 65


def test_a_second_optimizer_ends_it() -> None:
    with attached() as (observer, _):
        first, second = pair(), pair()
        train(*first, 14)
        for _ in range(6):
            train(*first, 1)
            train(*second, 1)
    assert len(observer.begun) == 2
    assert observer.told + observer.untold == 14 + 12


def test_an_optimizer_that_goes_while_its_steps_pass() -> None:
    with attached() as (observer, attachment):
        model, optimizer = pair()
        train(model, optimizer, 14)
        del optimizer
        assert attachment.doze.optimizer == 0
        train(model, SGD(model.parameters(), lr=0.01), 10)
    assert observer.told + observer.untold == 24


def test_clipping_while_nothing_is_wanted_is_not_carried_to_the_step_that_is() -> None:
    with attached() as (_, attachment):
        model, optimizer = pair()
        for _ in range(19):
            optimizer.zero_grad()
            torch.autograd.backward(model(torch.ones(4, 3)).sum())
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
        assert len(attachment.gathered.batches.clips) <= 1
