"""The loss of every step is known, whatever else is measured of it, and is what the script had."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from vario.capture import every_loss
from vario.capture.attach import Attachment
from vario.capture.streams import Stream
from vario.capture.thinned import Thinned

STEPS = 90


class Now(Exception):
    """Planted."""


class Kept:
    """Reads the losses of every twentieth step; of the others, those that are kept while they pass."""

    def __init__(self, period: int, idle: bool, grads: bool) -> None:
        self.period, self.idle, self.grads = period, idle, grads
        self.found: dict[tuple[str, int], float] = {}
        self.passing: list[int] = []
        self.failures: list[str] = []
        self.untold = 0
        self.kept_periods, self.points = dict[str, int](), dict[str, dict[int, float]]()

    def began(self, stream: Stream) -> None:
        self.stream = stream

    def wants(self, stream: Stream) -> frozenset[str]:
        if stream.step % 20 == 19 and self.grads:
            return frozenset({"grads", "keep_grads"})
        return frozenset() if stream.step % 20 else frozenset({"losses", "terms"})

    def idle_steps(self, stream: Stream) -> int:
        return max(0, -stream.step % 20 - int(self.grads)) if self.idle else 0

    def loss_period(self, stream: Stream) -> int:
        return self.period

    def kept_period(self, stream: Stream, kept: Thinned) -> int:
        return self.kept_periods.get(kept.series, 0)

    def kept(self, stream: Stream, series: str, steps: Sequence[int], values: Sequence[float]) -> None:
        assert not set(steps) & set(self.points.setdefault(series, {}))
        self.points[series] |= dict(zip(steps, values, strict=True))

    def losses(self, stream: Stream, steps: Sequence[int], losses: Sequence[float]) -> None:
        for step, loss in zip(steps, losses, strict=True):
            assert (stream.name, step) not in self.found
            self.found[stream.name, step] = loss
            self.passing.append(step)

    def passed(self, stream: Stream, steps: int, offered: Any) -> None:
        self.untold += steps

    def at_gradient(self, stream: Stream, raw: Any) -> None:
        if "losses" in raw:
            assert (stream.name, stream.step) not in self.found
            self.found[stream.name, stream.step] = sum(raw["losses"]) / len(raw["losses"])

    def stepped(self, stream: Stream, raw: Any) -> None: ...
    def readings(self, stream: Stream, readings: Any) -> None: ...
    def event(self, stream: Stream, kind: str, where: str, data: Any) -> None: ...

    def failed(self, place: str, error: Exception) -> None:
        self.failures.append(f"{place}: {error!r}")

    def of(self, name: str) -> dict[int, float]:
        return {step: loss for (stream, step), loss in self.found.items() if stream == name}


@contextmanager
def attached(
    period: int = 1, *, idle: bool = True, grads: bool = False, every: Mapping[str, int] | None = None
) -> Iterator[Kept]:
    """`every`: of other series, of how many steps one is read."""
    observer = Kept(period, idle, grads)
    observer.kept_periods |= every or {}
    attachment = Attachment(observer)
    try:
        yield observer
    finally:
        attachment.detach()
        assert not observer.failures


class Script:
    """A loop that notes the loss of each of its steps."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.model = nn.Linear(3, 1)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.01)
        self.losses: list[float] = []

    def loss(self) -> Tensor:
        x = torch.randn(8, 3)
        return nn.functional.mse_loss(self.model(x), x.sum(1, keepdim=True) + torch.randn(8, 1))


class Counter(TorchDispatchMode):
    """What the script itself might use to count operations."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.seen.append(str(func))
        return func(*args, **(kwargs or {}))


def counted_operations(script: Any, loop: Callable[[Any], None]) -> list[str]:
    """Of steps 45 to 54."""
    for _ in range(45):
        loop(script)
    with Counter() as counter:
        for _ in range(10):
            loop(script)
    return counter.seen


def plain(script: Script) -> None:
    script.optimizer.zero_grad()
    loss = script.loss()
    loss.backward()
    script.optimizer.step()
    script.losses.append(loss.item())


def of_one_entry(script: Script) -> None:
    script.optimizer.zero_grad()
    loss = script.loss().reshape(1)
    torch.autograd.backward([loss])
    script.optimizer.step()
    script.losses.append(loss.item())


def divided(script: Script) -> None:
    parts = []
    for _ in range(4):
        loss = script.loss()
        (loss / 4).backward()
        parts.append(loss.item())
    script.optimizer.step()
    script.optimizer.zero_grad()
    script.losses.append(sum(parts) / 4)


def added(script: Script) -> None:
    parts = []
    for _ in range(3):
        loss = script.loss()
        loss.backward()
        parts.append(loss.item())
    script.optimizer.step()
    script.optimizer.zero_grad()
    script.losses.append(sum(parts) / 3)


def evaluated(script: Script) -> None:
    plain(script)
    if len(script.losses) % 7 == 0:
        with torch.no_grad():
            script.loss()


def changed_in_place(script: Script) -> None:
    script.optimizer.zero_grad()
    loss = script.loss()
    loss.backward()
    script.losses.append(loss.item())
    loss.detach().mul_(100)
    script.optimizer.step()


def with_a_default_device(script: Script) -> None:
    with torch.device("cpu"):
        plain(script)


def scaled(script: Script) -> None:
    scaler = script.__dict__.setdefault("scaler", torch.amp.GradScaler("cpu", init_scale=8.0))
    script.optimizer.zero_grad()
    loss = script.loss()
    scaler.scale(loss).backward()
    scaler.step(script.optimizer)
    scaler.update()
    script.losses.append(loss.item())


def by_hand(script: Script) -> None:
    script.model.zero_grad()
    loss = script.loss()
    loss.backward()
    script.losses.append(loss.item())
    with torch.no_grad():
        for parameter in script.model.parameters():
            parameter -= 0.01 * parameter.grad


def by_hand_through_grad(script: Script) -> None:
    loss = script.loss()
    parameters = list(script.model.parameters())
    gradients = torch.autograd.grad(loss, parameters)
    script.losses.append(loss.item())
    with torch.no_grad():
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter -= 0.01 * gradient


LOOPS = (
    plain,
    of_one_entry,
    divided,
    added,
    evaluated,
    changed_in_place,
    with_a_default_device,
    scaled,
    by_hand,
    by_hand_through_grad,
)


@pytest.mark.parametrize("grads", [False, True], ids=["", "next gradients kept"])
@pytest.mark.parametrize("idle", [True, False], ids=["dozing", "heard"])
@pytest.mark.parametrize("loop", LOOPS, ids=lambda loop: loop.__name__)
def test_every_step_has_the_loss_that_the_script_had(
    loop: Callable[[Script], None], idle: bool, grads: bool
) -> None:
    script = Script()
    with attached(idle=idle, grads=grads) as kept:
        for _ in range(STEPS):
            loop(script)
    found = kept.of("script.model" if "script.model" in {s for s, _ in kept.found} else "model")
    missing = set(range(STEPS)) - set(found)
    assert missing <= {STEPS - 1}, "by hand the last step is one of which nobody knows"
    truth = torch.tensor([script.losses[step] for step in sorted(found)], dtype=torch.float64)
    torch.testing.assert_close(
        torch.tensor([found[step] for step in sorted(found)], dtype=torch.float64), truth, rtol=1e-6, atol=0
    )
    assert bool(kept.untold) == (idle and loop is not scaled)


def test_of_every_third_step_only_where_no_more_is_afforded() -> None:
    script = Script()
    with attached(3) as kept:
        for _ in range(STEPS):
            plain(script)
    assert len(kept.found) == sum(1 for s in range(STEPS) if s % 20 == 0 or (s % 20 - 1) % 3 == 0)
    assert all(script.losses[step] == loss for (_, step), loss in kept.found.items())


def test_what_one_more_costs_is_measured() -> None:
    script = Script()
    with attached() as kept:
        for _ in range(3):
            plain(script)
        attachment: Any = kept.stream.every_loss
        assert attachment.cost() is None
        for _ in range(60):
            plain(script)
        assert 1e-7 < attachment.cost() < 1e-2


def test_two_optimizers_each_have_their_own() -> None:
    first, second = Script(), Script()
    second.model = nn.Linear(3, 1)
    second.optimizer = torch.optim.SGD(second.model.parameters(), lr=0.01)
    with attached() as kept:
        for _ in range(STEPS):
            plain(first)
            plain(second)
    streams = {name for name, _ in kept.found}
    told = [[loss for _, loss in sorted(kept.of(name).items())] for name in sorted(streams)]
    second.losses.pop(0)  # it passed before anybody knew of its optimizer
    assert sorted(map(tuple, told)) == sorted([tuple(first.losses), tuple(second.losses)])


def test_a_step_of_fewer_backwards_than_were_last_seen_has_none() -> None:
    """By what its losses were divided is not known."""
    script = Script()
    with attached() as kept:
        for step in range(STEPS):
            for _ in range(2 if step in (30, 31) else 4):
                (script.loss() / 4).backward()
            script.optimizer.step()
            script.optimizer.zero_grad()
    assert {step for _, step in kept.found} == set(range(STEPS)) - {30, 31}


def test_what_is_no_loss_has_none_and_breaks_nothing() -> None:
    script = Script()
    with attached() as kept:
        for step in range(STEPS):
            script.optimizer.zero_grad()
            if step % 20 in (5, 6):
                torch.autograd.backward(script.model(torch.ones(4, 3)), torch.ones(4, 1))
            elif step % 20 == 7:
                loss = script.loss().to(torch.complex64)
                loss.backward(torch.ones_like(loss))
            else:
                script.loss().backward()
            script.optimizer.step()
    assert {step for _, step in kept.found} == {s for s in range(STEPS) if s % 20 not in (5, 6, 7)}


def test_backwards_without_a_step_are_not_kept_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(every_loss, "MOST_NUMBERS", 50)
    script, observer = Script(), Kept(1, True, False)
    attachment = Attachment(observer)
    for _ in range(22):
        plain(script)
    for _ in range(200):
        script.loss().backward()
    (stream,) = attachment.streams
    assert len(stream.every_loss._numbers) == 50
    attachment.detach()
    assert [loss for _, loss in sorted(observer.found.items())] == script.losses


def test_of_steps_that_nobody_measures_they_are_told_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(every_loss, "MOST_HELD", 7)
    monkeypatch.setattr(Kept, "wants", lambda self, stream: frozenset() if stream.step else {"losses"})
    script, observer = Script(), Kept(1, False, False)
    attachment = Attachment(observer)
    for _ in range(20):
        plain(script)
    assert sorted(step for _, step in observer.found) == list(range(15))
    attachment.detach()
    assert [loss for _, loss in sorted(observer.found.items())] == script.losses


def test_a_backward_of_another_thread_is_none_of_the_step() -> None:
    script, other = Script(), Script()
    with attached() as kept:
        for step in range(STEPS):
            if step % 20 == 5:
                thread = threading.Thread(target=lambda: other.loss().backward())
                thread.start()
                thread.join()
            plain(script)
    assert [kept.of("script.model").get(s, kept.of("model").get(s)) for s in range(STEPS)] == script.losses


def test_the_scripts_counter_of_operations_counts_none_of_ours() -> None:
    bare = counted_operations(Script(), plain)
    with attached() as kept:
        assert counted_operations(Script(), plain) == bare
    assert len(kept.found) == 55


def test_what_breaks_is_switched_off_and_the_run_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: Any, loss: Any) -> None:
        raise Now

    monkeypatch.setattr("vario.capture.every_loss.EveryLoss.backward", broken)
    script, observer = Script(), Kept(1, True, False)
    attachment = Attachment(observer)
    for _ in range(STEPS):
        plain(script)
    attachment.detach()
    assert len(script.losses) == STEPS
    assert {text.split(":")[0] for text in observer.failures} == {"the loss of every step"}
    assert {step for _, step in observer.found} == set(range(0, STEPS, 20))
