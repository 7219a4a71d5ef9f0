"""Test ``vario.capture.left_out``: a model that the gradient reaches and no optimizer holds is told."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from tests.capture.test_traps import attached

Nets = tuple[nn.Linear, nn.Linear]


def told(change: Callable[[nn.Linear, int], None], steps: int = 40, both: bool = False) -> list[list[str]]:
    """What is told of an encoder and a decoder of which one optimizer was given the decoder (or both)."""
    torch.manual_seed(0)
    with attached() as notes:
        encoder, decoder = nn.Linear(4, 4), nn.Linear(4, 2)
        held = [*decoder.parameters(), *(encoder.parameters() if both else ())]
        optimizer = torch.optim.SGD(held, lr=0.1)
        for step in range(steps):
            optimizer.zero_grad()
            change(encoder, step)
            decoder(encoder(torch.randn(8, 4))).square().mean().backward()
            optimizer.step()
    return [sorted(data["parameters"]) for _, kind, _, data in notes.happened if kind == "left_out"]


def nothing(encoder: nn.Module, step: int) -> None:
    """The script that forgot it."""


def by_hand(encoder: Any, step: int) -> None:
    encoder.weight.data.mul_(0.99)
    encoder.bias.data.add_(0.01)


def late(encoder: Any, step: int) -> None:
    if step >= 20:
        by_hand(encoder, step)


def test_a_model_in_no_optimizer_is_told_by_name_and_only_after_some_steps() -> None:
    assert told(nothing) == [["encoder.bias", "encoder.weight"]]
    assert told(nothing, steps=10) == [] == told(nothing, both=True)


@pytest.mark.parametrize(
    "on_purpose", [lambda net, _: net.eval(), lambda net, _: net.requires_grad_(False), by_hand]
)
def test_a_fixed_model_and_one_that_a_hand_moves_are_not(on_purpose: Any) -> None:
    assert told(on_purpose) == []


def test_what_moves_later_is_taken_back() -> None:
    assert told(late) == [["encoder.bias", "encoder.weight"], []]


def test_what_an_earlier_phase_left_behind_gets_no_new_gradient() -> None:
    with attached() as notes:
        old, new = nn.Linear(4, 2), nn.Linear(4, 2)
        old(torch.ones(1, 4)).sum().backward()
        optimizer = torch.optim.SGD(new.parameters(), lr=0.1)
        for _ in range(40):
            optimizer.zero_grad()
            new(torch.randn(8, 4)).square().mean().backward()
            optimizer.step()
    assert not [1 for _, kind, _, _ in notes.happened if kind == "left_out"]
