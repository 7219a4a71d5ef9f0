"""Test ``vario.session``: the budget, the schedule, and that nothing of ours reaches the script."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import nn

from vario.capture.attach import Attachment
from vario.capture.moment import Moment
from vario.nouns import Reading
from vario.session import FIRST, Budget, Session


@dataclass
class FakeWriter:
    """Keeps what it is given; fails where it is told to."""

    fails: bool = False
    read: list[tuple[int, dict[str, Any]]] = field(default_factory=list)
    happened: list[tuple[int, str, str]] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)

    def readings(self, stream: str, step: int, readings: list[Reading]) -> None:
        self._fail()
        self.read.append((step, {reading.series: reading.value for reading in readings}))

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
) -> tuple[FakeWriter, list[str], torch.Tensor]:
    """Train a small net under watch; what was written, what was said, the final weights."""
    torch.manual_seed(0)
    model = nn.Linear(4, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x, y = torch.randn(16, 4), torch.randn(16, 1)
    writer, said = writer or FakeWriter(), []
    session = Session(lambda: writer, overhead=overhead, instruments=instruments, say=said.append)
    attachment = Attachment(session, only=model, budget=overhead)
    session.own_time = lambda: attachment.own
    disturb(attachment)
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.mse_loss(model(x), y).backward()
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


@pytest.mark.parametrize("share", [0.01, 0.03, 0.1])
def test_the_budget_is_kept_in_the_long_run(share: float) -> None:
    budget, spent, time = Budget(share), 0.0, 0.0
    for step in range(20_000):
        probe = step < FIRST or budget.affords_probe()
        own = 8e-3 if probe else 10e-6
        budget.stepped(2e-3 + own, own, "probe" if probe else "cheap")
        if step > 2000:
            spent, time = spent + own, time + 2e-3
    assert 0.5 * share < spent / time < share + 0.01


def test_a_slower_step_after_a_probe_counts_as_its_cost() -> None:
    def probes(slower: float) -> int:
        budget, count, after = Budget(0.03), 0, False
        for step in range(5000):
            probe = step < FIRST or budget.affords_probe()
            own = 2e-3 if probe else 1e-5
            budget.stepped(2e-3 + own + (slower if after else 0.0), own, "probe" if probe else "cheap")
            count, after = count + probe, probe
        return count

    assert probes(4e-3) < 0.6 * probes(0.0)


def test_cheap_instruments_are_thinned_where_a_step_is_short() -> None:
    def period(step_seconds: float) -> int:
        budget = Budget(0.03)
        for _ in range(200):
            budget.stepped(step_seconds + 60e-6, 60e-6, "cheap")
        return budget.periods["cheap"]

    assert period(20e-3) == 1
    assert period(1e-3) == 5  # 0.4 of 3 % of a millisecond is 12 us
    assert period(1e-5) == 64


@pytest.mark.parametrize("share", [0.01, 0.03, 0.1])
def test_three_kinds_of_step_share_the_budget(share: float) -> None:
    budget, cost = Budget(share), {"none": 4e-6, "cheap": 150e-6, "call": 400e-6, "probe": 4e-3}
    spent = dict.fromkeys(cost, 0.0)
    for step in range(40_000):
        kind = "probe" if step < FIRST or budget.affords_probe() else budget.kind(step)
        budget.stepped(2e-3 + cost[kind], cost[kind], kind)
        if step > 4000:
            spent[kind] += cost[kind] / (36_000 * 2e-3)
    assert sum(spent.values()) < share + 0.01
    assert all(spent[kind] > 0.1 * share for kind in ("cheap", "call", "probe")), spent


def test_a_poor_run_is_measured_in_full_as_often_as_it_doubles() -> None:
    budget, probes = Budget(1e-6), []
    for step in range(5000):
        probe = step < FIRST or budget.affords_probe()
        budget.stepped(1e-3 + 0.1, 0.1, "probe" if probe else "cheap")
        probes += [step] * probe
    late = [step for step in probes if step > 100]  # the grant is over
    assert 5 <= len(late) <= 7
    assert all(1.9 < after / before < 2.1 for before, after in zip(late, late[1:], strict=False))


@pytest.mark.parametrize("seed", range(5))
def test_steps_that_need_not_be_heard_are_those_without_a_probe(seed: int) -> None:
    """What is promised ahead is what step after step would have been decided."""
    chance, budget, promised, kept = random.Random(seed), Budget(0.02), 0, 0
    for step in range(6000):
        probe = step < FIRST or budget.affords_probe()
        if promised:
            assert not probe, step
            promised, kept = promised - 1, kept + 1
        own = 3e-3 if probe else 1e-6
        budget.stepped(2e-3 * chance.uniform(0.999, 1.001) + own, own, "probe" if probe else "none")
        if not promised:
            promised = min(budget.nothing_for(), 20)
    assert kept > 3000


def test_steps_that_passed_unheard_cost_and_earn_as_others_do() -> None:
    def account(together: bool) -> Budget:
        budget = Budget(0.03)
        for step in range(40):
            budget.stepped(3e-3, 1e-3, "probe" if step < FIRST else "none")
        if together:
            budget.passed(50, 50 * 2.1e-3, 50 * 0.1e-3)
        else:
            for _ in range(50):
                budget.stepped(2.1e-3, 0.1e-3, "none")
        return budget

    one, other = account(True), account(False)
    assert one.own == pytest.approx(other.own) and one.bare == pytest.approx(other.bare)
    assert one._steps == other._steps and one._since == other._since
