"""Steps of which nothing is wanted pass untold, and are still counted."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD
from torch.utils.data import DataLoader

from vario.capture.attach import Attachment
from vario.capture.streams import Stream
from vario.capture.thinned import Thinned
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

    def kept_period(self, stream: Stream, kept: Thinned) -> int:
        return 0

    def kept(self, stream: Stream, series: str, steps: Sequence[int], values: Sequence[float]) -> None: ...

    def loss_period(self, stream: Stream) -> int:
        return 0

    def idle_steps(self, stream: Stream) -> int:
        return -stream.step % 10

    def passed(self, stream: Stream, steps: int, offered: Any) -> None:
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


class Losses(EveryTenth):
    """Wants losses and times of every step; `idle` steps may wait for each other."""

    def __init__(self, idle: int) -> None:
        super().__init__()
        self.idle = idle
        self.found: dict[tuple[str, int], Any] = {}
        self.waits: dict[int, float] = {}

    def wants(self, stream: Stream) -> frozenset[str]:
        return frozenset({"losses", "times"})

    def kept_period(self, stream: Stream, kept: Thinned) -> int:
        return 0

    def kept(self, stream: Stream, series: str, steps: Sequence[int], values: Sequence[float]) -> None: ...

    def loss_period(self, stream: Stream) -> int:
        return 0

    def idle_steps(self, stream: Stream) -> int:
        return self.idle

    def passed(self, stream: Stream, steps: int, offered: Any) -> None:
        self.untold += steps
        assert len(offered) == steps
        for step, raw in enumerate(offered, stream.step - steps):
            self._take(stream.name, step, raw)

    def at_gradient(self, stream: Stream, raw: Any) -> None:
        self._take(stream.name, stream.step, raw)

    def _take(self, stream: str, step: int, raw: Any) -> None:
        assert (stream, step) not in self.found
        self.found[stream, step] = raw.get("losses")
        self.waits[step] = raw["times"]["data_wait"]


def step(model: nn.Module, optimizer: torch.optim.Optimizer, scale: float = 1.0, parts: int = 1) -> None:
    """A step of `parts` micro-batches, the loss of each divided by their number."""
    optimizer.zero_grad()
    for part in range(parts):
        loss = (
            nn.functional.mse_loss(model(torch.ones(4, 3)), torch.full((4, 1), float(scale + part))) / parts
        )
        loss.backward()
    optimizer.step()


def evaluated(model: nn.Module) -> None:
    with torch.no_grad():
        for batch in DataLoader([[1.0, 1.0, 1.0]] * 4):  # type: ignore[arg-type]
            nn.functional.mse_loss(model(torch.stack(batch, 1).float()), torch.zeros(1, 1))


def accumulates() -> None:
    model, optimizer = pair()
    for number in range(11):
        step(model, optimizer, number, parts=1 if number == 10 else 4)


def evaluates() -> None:
    model, optimizer = pair()
    for number in range(12):
        step(model, optimizer, number)
        if number % 5 == 4:
            evaluated(model)


def steps_without_a_backward() -> None:
    model, optimizer = pair()
    for number in range(9):
        step(model, optimizer, number)
        if number == 4:
            optimizer.step()


def meets_a_second_optimizer() -> None:
    first, second = pair(), pair()
    for number in range(14):
        step(*first, number)
        if number > 5:
            step(*second, number)


def calls_the_loss_in_its_steps() -> None:
    model = nn.Linear(3, 1)
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=3)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(torch.eye(3)), torch.ones(3, 1))
        loss.backward()
        return loss

    for _ in range(8):
        optimizer.step(closure)  # type: ignore[arg-type]


PROGRAMS = [accumulates, evaluates, steps_without_a_backward]
PROGRAMS += [meets_a_second_optimizer, calls_the_loss_in_its_steps]


@pytest.mark.parametrize("program", PROGRAMS)
def test_losses_that_are_kept_are_those_that_are_told(program: Callable[[], None]) -> None:
    seen = []
    for idle in (0, 7):
        torch.manual_seed(0)
        observer = Losses(idle)
        attachment = Attachment(observer)
        program()
        attachment.detach()
        assert not observer.failures
        assert (observer.untold > 0) == (idle > 0 and program is not calls_the_loss_in_its_steps)
        seen.append((observer.found, observer.happened, observer.read))
    assert seen[0] == seen[1]


def test_the_wait_for_data_is_that_of_each_step_that_is_kept() -> None:
    observer = Losses(7)
    attachment = Attachment(observer)
    model, optimizer = pair()
    iterator = iter(DataLoader([0.0]))  # type: ignore[arg-type]
    for number in range(10):
        attachment.batch_came(iterator, [], [], float(number))
        step(model, optimizer)
    attachment.detach()
    assert observer.waits == {number: float(number) for number in range(10)}  # the first is 0: no stream was
