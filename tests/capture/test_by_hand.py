"""Test ``vario.capture.by_hand``: what it must not touch. (That it sees updates by hand: ``test_traps``.)"""

from __future__ import annotations

import torch
from torch import nn

from tests.capture.per_example.test_door import listening


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
