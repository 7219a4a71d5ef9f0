"""Test ``vario.capture.by_hand``: what it must not touch. (That it sees updates by hand: ``test_traps``.)"""

from __future__ import annotations

import torch
from torch import nn

from tests.capture.per_example.test_door import listening
from tests.capture.test_traps import attached


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
