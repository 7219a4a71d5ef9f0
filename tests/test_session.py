"""Test ``vario.session``: the budget, the schedule, and that nothing of ours reaches the script."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from vario.budget import FIRST, Budget
from vario.capture.attach import Attachment
from vario.capture.moment import Moment
from vario.capture.shards import read_by_all
from vario.nouns import Reading
from vario.session import LOST_IN_FULL, Session


@dataclass
class FakeWriter:
    """Keeps what it is given; fails where it is told to."""

    fails: bool = False
    read: list[tuple[int, dict[str, Any]]] = field(default_factory=list)
    happened: list[tuple[int, str, str]] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)

    def readings(self, stream: str, step: int, readings: list[Reading]) -> None:
        self._fail()
        if not self.read or self.read[-1][0] != step:
            self.read.append((step, {}))
        self.read[-1][1].update((reading.series, reading.value) for reading in readings)

    def points(self, stream: str, series: str, steps: Sequence[int], values: Sequence[float]) -> None:
        self._fail()
        for step, value in zip(steps, values, strict=True):
            if not self.read or self.read[-1][0] != step:
                self.read.append((step, {}))
            self.read[-1][1][series] = value

    def event(self, stream: str, step: int, kind: str, where: str, data: Any) -> None:
        self._fail()
        self.happened.append((step, kind, where))

    def meta(self, key: str, value: Any) -> None:
        self.facts[key] = value

    def flush(self) -> None:
        self._fail()

    def close(self) -> None:
        self._fail()

    def _fail(self) -> None:
        if self.fails:
            raise OSError("no space left on device")


@dataclass(frozen=True)
class Norm:
    name: str = "norm"
    needs: frozenset[str] = frozenset({"gradient_norms"})

    def read(self, moment: Moment) -> Iterator[Reading]:
        yield moment.reading("norm/gradient", moment["gradient_norms"][""][0])


@dataclass(frozen=True)
class Loss:
    name: str = "loss"
    needs: frozenset[str] = frozenset({"losses"})

    def read(self, moment: Moment) -> Iterator[Reading]:
        yield moment.reading("loss/train", moment["losses"][0])


@dataclass(frozen=True)
class Broken:
    name: str = "broken"
    needs: frozenset[str] = frozenset({"losses"})

    def read(self, moment: Moment) -> Iterator[Reading]:
        raise ZeroDivisionError("a mistake of ours")
        yield


def train(
    *instruments: Any,
    steps: int = 8,
    overhead: float = 1.0,
    writer: FakeWriter | None = None,
    disturb: Callable[[Attachment], None] = lambda attachment: None,
    lost_from: int | None = None,
    every_step: bool = False,
    compiled_at: int | None = None,
) -> tuple[FakeWriter, list[str], torch.Tensor]:
    """Train a small net under watch; what was written, what was said, the final weights."""
    torch.manual_seed(0)
    model = nn.Linear(4, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x, y = torch.randn(16, 4), torch.randn(16, 1)
    writer, said = writer or FakeWriter(), []
    session = Session(
        lambda: writer, overhead=overhead, instruments=instruments, every_step=every_step, say=said.append
    )
    attachment = Attachment(session, only=model, budget=overhead)
    session.own_time = lambda: attachment.own
    disturb(attachment)
    for step in range(steps):
        if step == compiled_at:
            attachment.compiled(model)
        optimizer.zero_grad()
        broken = lost_from is not None and step >= lost_from
        nn.functional.mse_loss(model(x), y * (float("nan") if broken else 1.0)).backward()
        optimizer.step()
    attachment.detach()
    session.end("", code=0)
    return writer, said, model.weight.detach().clone()


def test_everything_is_measured_where_the_budget_is_everything() -> None:
    writer, said, _ = train(Loss(), Norm())
    assert [step for step, _ in writer.read] == list(range(8))
    assert all(set(values) == {"loss/train", "norm/gradient"} for _, values in writer.read)
    assert not said
    assert writer.facts["schedule"]["model"]["ran"] == {"loss": 8, "norm": 8}


def test_a_small_budget_measures_the_first_steps_and_then_rarely() -> None:
    writer, _, _ = train(Loss(), Norm(), steps=600, overhead=0.001)
    full = [step for step, values in writer.read if "norm/gradient" in values]
    assert full[:FIRST] == list(range(FIRST))
    assert len(full) < 120
    schedule = writer.facts["schedule"]["model"]
    assert schedule["ran"]["norm"] == len(full)
    assert schedule["steps"] == 600
    assert len(writer.read) < 600, "even the loss must be thinned: a step takes 0.1 ms"


@dataclass(frozen=True)
class Dear(Norm):
    def read(self, moment: Moment) -> Iterator[Reading]:
        time.sleep(0.02)
        return super().read(moment)


def test_what_a_step_may_cost_is_not_given_to_the_next_one_as_well() -> None:
    writer, _, _ = train(Dear(), steps=150, overhead=0.001)
    full = [step for step, _ in writer.read][FIRST:]
    assert len(full) > 8
    assert all(after - before > 1 for before, after in zip(full, full[1:], strict=False)), full


def test_what_the_budget_is_told_adds_up_to_what_was_spent(monkeypatch: pytest.MonkeyPatch) -> None:
    told: dict[str, list[tuple[float, float]]] = {"stepped": [], "passed": []}
    stepped, passed = Budget.stepped, Budget.passed

    def step_told(budget: Budget, seconds: float, own: float, kind: str) -> None:
        told["stepped"].append((seconds, own))
        stepped(budget, seconds, own, kind)

    def steps_told(budget: Budget, steps: int, seconds: float, own: float) -> None:
        told["passed"].append((seconds, own))
        passed(budget, steps, seconds, own)

    monkeypatch.setattr(Budget, "stepped", step_told)
    monkeypatch.setattr(Budget, "passed", steps_told)
    heard: list[Attachment] = []
    began = time.perf_counter()
    train(Loss(), Norm(), steps=600, overhead=0.01, disturb=heard.append)
    wall = time.perf_counter() - began
    assert told["passed"], "no step was passed untold"
    seconds, own = np.array(told["stepped"] + told["passed"]).T
    assert (own >= 0).all()
    # The first bears what was made before it; and between two clocks another process may have its turn.
    assert (own <= seconds)[1:].mean() > 0.98
    assert 0.8 * heard[0].own <= own.sum() <= heard[0].own  # what is done at the end belongs to no step
    assert own[1:].sum() <= seconds.sum() <= wall


@dataclass(frozen=True)
class Noise:
    name: str = "noise"
    needs: frozenset[str] = frozenset({"example_gradients", "inputs"})

    def read(self, moment: Moment) -> Iterator[Reading]:
        if "example_gradients" in moment:
            yield moment.reading("noise/heard", 1.0)


@dataclass(frozen=True)
class Modes:
    name: str = "mode"
    needs: frozenset[str] = frozenset({"modes"})

    def read(self, moment: Moment) -> Iterator[Reading]:
        yield moment.reading("mode/train_share", 1.0)


def test_runs_that_are_compared_have_their_loss_at_every_step_and_the_rest_within_the_budget() -> None:
    writer, _, _ = train(Loss(), Modes(), Norm(), steps=600, overhead=0.001, every_step=True, compiled_at=333)
    losses = {step: values["loss/train"] for step, values in writer.read if "loss/train" in values}
    everything, _, _ = train(Loss(), steps=600)
    assert list(losses.items()) == [(step, values["loss/train"]) for step, values in everything.read]
    assert len([step for step, values in writer.read if "mode/train_share" in values]) < 100
    assert (333, "compiled", "") in writer.happened


@pytest.mark.parametrize("overhead", [0.001, 0.2])
def test_ranks_that_can_afford_more_or_less_hear_single_examples_at_the_same_steps(
    overhead: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vario.session.world_size", lambda: 2)
    writer, _, _ = train(Noise(), steps=400, overhead=overhead)
    heard = [step for step, _ in writer.read]
    assert len(heard) >= 6 and all(map(read_by_all, heard))


def test_what_is_dear_runs_whenever_the_run_has_doubled() -> None:
    writer, _, _ = train(Norm(), Norm("representation-rank"), steps=300, overhead=0.5)
    ran = writer.facts["schedule"]["model"]["ran"]
    assert 6 <= ran["representation-rank"] <= 10 and ran["representation-rank"] < ran["norm"]


@dataclass(frozen=True)
class Inputs:
    name: str = "input"
    needs: frozenset[str] = frozenset({"inputs"})

    def read(self, moment: Moment) -> Iterator[Reading]:
        if "inputs" in moment:
            yield moment.reading("input/count", float(len(moment["inputs"])))


def test_of_a_run_that_is_lost_a_few_steps_are_measured_in_full_and_then_its_inputs() -> None:
    writer, _, _ = train(Loss(), Norm(), Inputs(), steps=300, overhead=0.01, lost_from=100)
    known = [step for step, values in writer.read if not math.isfinite(values.get("loss/train", 0.0))]
    after = [(step, values) for step, values in writer.read if step > known[0]]
    in_full = [step for step, values in after if "norm/gradient" in values]
    assert LOST_IN_FULL - 2 <= len(in_full) <= 2 * LOST_IN_FULL
    assert [step for step, values in after if "input/count" in values] == list(range(known[0] + 1, 300))


def test_an_instrument_that_raises_is_switched_off_and_named_once() -> None:
    writer, said, weights = train(Broken(), Loss())
    assert [event[1:] for event in writer.happened if event[1] == "switched_off"] == [
        ("switched_off", "broken")
    ]
    assert len(said) == 1 and "broken" in said[0] and "a mistake of ours" in said[0]
    assert len([values for _, values in writer.read if "loss/train" in values]) == 8
    assert torch.equal(weights, train(Loss())[2])


def test_a_record_that_cannot_be_written_is_said_once_and_the_run_goes_on() -> None:
    _, said, weights = train(Loss(), writer=FakeWriter(fails=True))
    assert len(said) == 1 and "no space left" in said[0]
    assert torch.equal(weights, train(Loss())[2])


@pytest.mark.parametrize(
    "part", ["before_backward", "after_backward", "loss_called", "before_step", "after_step", "forward"]
)
def test_a_hook_that_raises_is_switched_off_and_the_run_goes_on(part: str) -> None:
    calls = []

    def disturb(attachment: Attachment) -> None:
        def broken(*arguments: Any) -> None:
            calls.append(part)
            raise RuntimeError("a mistake of ours")

        setattr(attachment, part, broken)

    _, said, weights = train(Loss(), disturb=disturb)
    assert len([line for line in said if part in line]) == 1
    assert calls == [part], "switched off after the first failure"
    assert torch.equal(weights, train(Loss())[2])


def test_torch_is_as_it_was_after_the_last_listener_left() -> None:
    places = [
        (torch.autograd, "backward"),
        (nn.functional, "cross_entropy"),
        (torch.nn.utils, "clip_grad_norm_"),
        (torch.utils.data.DataLoader, "__iter__"),
        (torch, "compile"),
    ]
    before = [owner.__dict__[name] for owner, name in places]
    seen = []
    train(Loss(), disturb=lambda _: seen.extend(owner.__dict__[name] for owner, name in places))
    assert all(one is not other for one, other in zip(seen, before, strict=True))
    assert [owner.__dict__[name] for owner, name in places] == before


def test_the_loss_of_every_step_is_recorded_whatever_else_is_afforded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("vario.capture.every_loss.EveryLoss.cost", lambda self: 1e-9)  # steps seem long
    writer, said, _ = train(Loss(), Norm(), steps=400, overhead=0.03)
    measured = {step for step, values in writer.read if "norm/gradient" in values}
    told = [step for step, values in writer.read if "loss/train" in values]
    assert told == sorted(set(told)), "in their order, none twice"
    assert len(told) >= 380 > 2 * len(measured), "all but some early ones, of steps that were not measured"
    assert writer.facts["schedule"]["model"]["ran"]["loss"] == len(told)
    assert not said


def test_a_loss_that_breaks_between_measured_steps_is_met(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vario.capture.every_loss.EveryLoss.cost", lambda self: 1e-9)
    writer, _, _ = train(Loss(), Norm(), steps=400, overhead=0.03, lost_from=301)
    lost = [values["loss/train"] for _, values in sorted(writer.read) if "loss/train" in values][-99:]
    assert all(math.isnan(loss) for loss in lost)
