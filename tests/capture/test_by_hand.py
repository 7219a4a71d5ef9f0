"""Test ``vario.capture.by_hand``: what it must not touch. (That it sees updates by hand: ``test_traps``.)"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from tests.capture.per_example.test_door import listening
from tests.capture.test_traps import Notes, attached
from vario.capture.attach import Attachment
from vario.capture.streams import Stream
from vario.capture.thinned import Thinned


def free(parameter: torch.Tensor) -> None:
    parameter.untyped_storage().resize_(0)


def test_weights_whose_memory_is_freed_after_each_pass_are_not_read() -> None:
    """As a sharded model does with the whole weights; reading them would end the process."""
    said: list[str] = []
    with listening(said=said) as kept:
        for _ in range(3):
            whole = nn.Parameter(torch.ones(64, 64))
            loss = (whole * 2).sum()
            whole.register_post_accumulate_grad_hook(free)
            loss.backward()
    assert said == [] and kept.of("switched_off") == []


def test_a_step_that_adds_zeros_is_a_step_and_a_second_backward_is_none() -> None:
    w = torch.ones(4, requires_grad=True)
    with attached() as notes:
        for step in range(8):
            for _ in range(2):  # gradients are gathered
                (torch.relu(w) if step < 2 else torch.relu(w - 100)).sum().backward()
            assert w.grad is not None
            with torch.no_grad():
                w -= 0.1 * w.grad
                w.grad.zero_()
    assert [number for _, number, _ in notes.steps] == list(range(8))


class Losses(Notes):
    """Keeps the loss of each step that it is told of."""

    untold = 0

    def at_gradient(self, stream: Stream, raw: Mapping[str, Any]) -> None:
        self.called[stream.step] = [float(call.value) - 1 for call in raw.get("loss_calls", ())]
        self.found[stream.step] = round(float(raw["losses"][0]), 3) if "losses" in raw else None

    def began(self, stream: Stream) -> None:
        self.found: dict[int, float | None] = {}
        self.called: dict[int, list[float]] = {}


class Sparing(Losses):
    """Wants something of every seventh step alone."""

    def wants(self, stream: Stream) -> frozenset[str]:
        return super().wants(stream) if stream.step % 7 == 0 else frozenset()

    def kept_period(self, stream: Stream, kept: Thinned) -> int:
        return 0

    def kept(self, stream: Stream, series: str, steps: Sequence[int], values: Sequence[float]) -> None: ...

    def loss_period(self, stream: Stream) -> int:
        return 0

    def idle_steps(self, stream: Stream) -> int:
        return -stream.step % 7

    def passed(self, stream: Stream, steps: int, offered: Sequence[Mapping[str, Any]]) -> None:
        assert not offered and not any(at % 7 == 0 for at in range(stream.step - steps, stream.step))
        self.untold += steps


def moved(observer: Losses, *, steps: int, way: str) -> torch.Tensor:
    """A net of one layer, moved by hand; the loss of step k is k, its gradient is 1."""
    w = torch.zeros(4, requires_grad=True)
    attachment = Attachment(observer)
    for number in range(steps):
        loss = w.sum() - w.sum().detach() + number
        if way == "grad of a loss function":
            loss = F.l1_loss(w - w.detach() + number + 1, torch.zeros(4)) - 1
        if way.startswith("grad"):
            (grad,) = torch.autograd.grad(loss, [w])
        elif way == "checkpointed":
            checkpoint(lambda x: x * 1.0, w, use_reentrant=True).sum().add(
                number - w.sum().detach()
            ).backward()
            grad = w.grad
        else:
            loss.backward()
            grad = w.grad
        with torch.no_grad():
            w -= 0.1 * grad
            if way == "evaluating" and number % 5 == 4:
                F.mse_loss(w, torch.ones(4))
        w.grad = None
    attachment.detach()
    return w.detach().clone()


@pytest.mark.parametrize("way", ["backward", "grad", "grad of a loss function", "checkpointed", "evaluating"])
@pytest.mark.parametrize("steps", [90, 93, 99])
def test_steps_of_which_nothing_is_wanted_pass_untold_and_are_counted(way: str, steps: int) -> None:
    sparing, whole = Sparing(), Losses()
    assert torch.equal(moved(sparing, steps=steps, way=way), moved(whole, steps=steps, way=way))
    assert not sparing.failures and not whole.failures
    assert list(whole.found.items()) == [(step, float(step)) for step in range(steps)]
    assert sparing.untold > 40 and len(sparing.found) + sparing.untold == steps
    assert {at: loss for at, loss in sparing.found.items() if at % 7 == 0} == {
        step: float(step) for step in range(0, steps, 7)
    }
    if way == "grad of a loss function":  # and the call is that of the step
        assert all(sparing.called[step] == [float(step)] for step in range(0, steps, 7))
