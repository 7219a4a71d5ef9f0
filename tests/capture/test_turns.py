"""Test ``vario.capture.turns``: of threads that train at once each step is heard whole or not at all."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.capture.test_traps import EVERYTHING, Notes, attached, step
from vario.capture.attach import Attachment
from vario.capture.turns import Turns

STEP = ("forward", "loss_called", "before_backward", "after_backward", "before_step", "after_step")


class Table:
    """Turns, and what they told; every event is entered and left at once."""

    def __init__(self) -> None:
        self.busy = False
        self.told: list[str] = []
        self.turns = Turns(
            lambda: self.busy, lambda: self.told.append("changed"), lambda: self.told.append("missed")
        )

    def hears(self, *events: str) -> list[bool]:
        heard = []
        for event in events:
            heard.append(self.turns.enter(event))
            self.turns.leave(event, heard[-1])
        return heard

    def elsewhere(self, *events: str) -> list[bool]:
        with Elsewhere() as thread:
            return thread(lambda: self.hears(*events))


class Elsewhere:
    """A thread that does what it is told, and goes on living."""

    def __enter__(self) -> Elsewhere:
        self.pool = ThreadPoolExecutor(1)
        return self

    def __call__(self, act: Callable[[], list[bool]]) -> list[bool]:
        return self.pool.submit(act).result()

    def __exit__(self, *error: object) -> None:
        self.pool.shutdown()


def test_one_thread_after_the_other_is_heard() -> None:
    table = Table()
    assert all(table.hears(*STEP, *STEP))
    assert all(table.elsewhere(*STEP)) and table.told == ["changed"]
    assert all(table.hears(*STEP)) and table.told == ["changed", "changed"]


def test_in_the_middle_of_a_step_another_thread_is_not_heard() -> None:
    table = Table()
    with Elsewhere() as other:
        table.hears(*STEP[:2])
        assert other(lambda: table.hears("forward")) == [False] and table.told == ["missed"]
        table.hears(*STEP[2:])
        # its own step began unheard, so it stays unheard to its end
        assert not any(other(lambda: table.hears(*STEP[1:])))
        assert all(other(lambda: table.hears(*STEP))) and table.told == ["missed", "changed"]


def test_an_event_may_bring_another() -> None:
    table = Table()
    assert table.turns.enter("gradients_off")  # such as garbage that is collected meanwhile
    assert all(table.hears(*STEP))
    table.turns.leave("gradients_off", True)
    assert table.turns.enter("forward") and table.turns.enter("optimizer_gone")
    table.turns.leave("optimizer_gone", True)
    table.turns.leave("forward", True)
    table.hears("before_step", "after_step")
    assert all(table.elsewhere(*STEP)) and all(table.hears(*STEP))


def test_an_evaluation_begins_no_step() -> None:
    table = Table()
    with torch.no_grad():
        assert table.hears("forward", "loss_called") == [True, True]
    assert all(table.elsewhere(*STEP)) and "missed" not in table.told


def test_a_thread_that_trains_no_more_gives_its_turn_away() -> None:
    table = Table()
    table.hears("forward", "before_backward", "after_backward")  # to look at a gradient once
    with Elsewhere() as other:
        heard = [all(other(lambda: table.hears(*STEP))) for _ in range(5)]
    assert heard == [False, False, False, True, True]


def test_nobody_is_interrupted_inside_a_backward() -> None:
    table = Table()
    table.hears("before_backward")
    table.busy = True
    with Elsewhere() as other:
        assert not any(all(other(lambda: table.hears(*STEP))) for _ in range(9))
        table.hears("before_step", "after_step")  # of one parameter, while the backward goes on
        assert not any(other(lambda: table.hears(*STEP)))
        table.busy = False
        assert all(table.hears("after_backward", "before_step", "after_step"))
        assert all(other(lambda: table.hears(*STEP)))


def test_updates_by_hand_are_heard_again_after_a_while() -> None:
    table = Table()
    table.hears("forward")
    with Elsewhere() as other:
        heard = [all(other(lambda: table.hears(*STEP[:4]))) for _ in range(40)]
    assert not heard[0] and heard[-1]


def test_what_fetches_ahead_is_heard_and_torchs_own_threads_are() -> None:
    table = Table()
    table.hears("before_backward")
    assert table.elsewhere("loader_started", "look_at_rows") == [True] * 2
    seen = []
    model = nn.Linear(2, 1)
    model.weight.register_hook(lambda grad: seen.append(table.turns.enter("before_step")))
    model(torch.ones(1, 2)).sum().backward()
    assert seen == [True]


def test_threads_that_train_at_once_are_recorded_step_by_step() -> None:
    def train(seed: int) -> list[float]:
        draw = torch.Generator().manual_seed(seed)
        model = nn.Sequential(nn.Linear(10, 16), nn.ReLU(), nn.Linear(16, 2))
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=draw))
        x = torch.randn(64, 10, generator=draw)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        losses = []
        for _ in range(60):
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), (x.sum(1) > 0).long())
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
        return losses

    bare = [train(seed) for seed in range(6)]
    with attached(EVERYTHING | {"example_gradients"}) as notes, ThreadPoolExecutor(3) as pool:
        assert list(pool.map(train, range(6))) == bare
    assert sum(kind == "other_threads" for _, kind, _, _ in notes.happened) <= 1
    curves: dict[str, list[float]] = {}
    for stream, _, raw in notes.steps:
        (loss,) = raw["losses"]  # one, and of no other model
        curves.setdefault(stream, []).append(float(loss))
    assert curves
    for heard in curves.values():
        own = next(curve for curve in bare if heard[0] in curve)
        assert [loss for loss in own if loss in heard] == heard


def test_what_fails_as_a_missed_step_is_told_stays_with_us(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: object) -> None:
        raise RuntimeError("of ours")

    monkeypatch.setattr(Attachment, "missed", fail)
    notes = Notes()
    attachment = Attachment(notes)
    model = nn.Linear(4, 3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    F.cross_entropy(model(torch.ones(6, 4)), torch.arange(6) % 3)  # a step begins here
    with Elsewhere() as other:
        other(lambda: [step(model, optimizer) is None])
    attachment.detach()
    assert notes.failures and "of ours" in notes.failures[0]


def test_training_that_moves_to_another_thread_goes_on() -> None:
    model = nn.Linear(4, 3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with attached() as notes:
        for _ in range(3):
            thread = threading.Thread(target=step, args=(model, optimizer))
            thread.start()
            thread.join()
        step(model, optimizer)
    assert [number for _, number, _ in notes.steps] == [0, 1, 2, 3]
