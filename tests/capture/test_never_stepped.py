"""Test ``vario.capture.never_stepped``: a forgotten step is told, sums of many micro-batches are none."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.capture.test_traps import Notes
from vario.capture.attach import Attachment
from vario.capture.never_stepped import ENOUGH


def gradients(net: nn.Module, backwards: int, *, step_every: int = 0, optimizer: bool = True) -> None:
    torch.manual_seed(0)
    x = torch.randn(8, 4)
    sgd = torch.optim.SGD(net.parameters(), lr=0.1) if optimizer else None
    for k in range(1, backwards + 1):
        if not step_every:
            net.zero_grad()
        F.mse_loss(net(x), x[:, :1]).backward()
        if sgd is not None and step_every and k % step_every == 0:
            sgd.step()
            sgd.zero_grad()
    net.__dict__["optimizer"] = sgd  # alive until the end


def told(backwards: int, *, step_every: int = 0, optimizer: bool = True) -> tuple[Notes, list[int]]:
    notes, net = Notes(), nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 1))
    attachment = Attachment(notes)
    try:
        gradients(net, backwards, step_every=step_every, optimizer=optimizer)
        kept = len(attachment.gathered.batches.calls)
    finally:
        attachment.detach()
    assert not notes.failures
    assert kept < ENOUGH or step_every
    return notes, [data["backwards"] for _, kind, _, data in notes.happened if kind == "never_stepped"]


def test_gradients_that_no_step_takes_are_told_and_their_batches_let_go():
    assert told(50)[1] == [50]


@pytest.mark.parametrize("step_every", [1, ENOUGH, 2 * ENOUGH])
def test_a_step_of_however_many_micro_batches_is_a_step(step_every):
    notes, found = told(5 * ENOUGH, step_every=step_every)
    assert not found
    assert [step for _, step, _ in notes.steps] == list(range(5 * ENOUGH // step_every))


def test_a_few_gradients_or_those_of_no_optimizer_are_nobodys_training():
    assert not told(ENOUGH - 1)[1]
    assert not told(50, optimizer=False)[1]
