"""Test ``vario.capture.dropouts``: dropout as a function is heard, and nothing of the script moves."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.capture.test_traps import Notes
from vario.capture.attach import Attachment
from vario.capture.dropouts import KIND, MOST


class Net(nn.Module):
    def __init__(self, p: float, *, forgets_the_mode: bool = False, as_module: bool = False) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(4, 16), nn.Linear(16, 1)
        self.drop = nn.Dropout(p) if as_module else None
        self.p, self.forgets = p, forgets_the_mode

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.inner(x).relu()
        if self.drop is not None:
            h = self.drop(h)
        elif self.forgets:
            h = F.dropout(h, self.p)
        else:
            h = F.dropout(h, self.p, self.training)
        out: torch.Tensor = self.outer(h)
        return out


def train(net: nn.Module, *, steps: int = 3) -> list[torch.Tensor]:
    torch.manual_seed(0)
    x = torch.randn(8, 4)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    for _ in range(steps):
        optimizer.zero_grad()
        F.mse_loss(net.train()(x), x[:, :1]).backward()
        optimizer.step()
        with torch.no_grad():
            F.mse_loss(net.eval()(x), x[:, :1])
    return [parameter.detach().clone() for parameter in net.parameters()]


def heard(net: nn.Module) -> Notes:
    notes = Notes()
    attachment = Attachment(notes)
    try:
        train(net)
    finally:
        attachment.detach()
    assert not notes.failures
    return notes


def events(notes: Notes) -> list[dict[str, Any]]:
    return [data for _, kind, _, data in notes.happened if kind == "dropout"]


def kinds_in_evaluation(notes: Notes) -> set[str]:
    shares = [r for _, read in notes.read for r in read if r.series == "mode/eval_share"]
    return {r.where for r in shares if isinstance(r.value, float) and r.value > 0}


def test_each_strength_is_told_once() -> None:
    assert events(heard(Net(0.7))) == [{"function": "dropout", "p": 0.7}]
    assert events(heard(Net(0.0))) == []


def test_a_module_is_in_the_list_of_modules_and_not_told_again() -> None:
    assert events(heard(Net(0.7, as_module=True))) == []


def test_what_drops_in_evaluation_counts_as_in_train_mode() -> None:
    assert KIND in kinds_in_evaluation(heard(Net(0.7, forgets_the_mode=True)))
    assert KIND not in kinds_in_evaluation(heard(Net(0.7)))


def test_a_schedule_of_strengths_is_not_told_without_end() -> None:
    class Scheduled(Net):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            for k in range(3 * MOST):
                x = F.dropout(x, (k + 1) / (4 * MOST), self.training)
            out: torch.Tensor = self.outer(self.inner(x))
            return out

    assert len(events(heard(Scheduled(0.5)))) == MOST


@pytest.mark.parametrize("as_module", [False, True])
def test_weights_and_randomness_are_the_same_bit_for_bit(as_module: bool) -> None:
    nets = []
    for listen in (False, True):
        torch.manual_seed(1)
        net = Net(0.5, as_module=as_module)
        attachment = Attachment(Notes()) if listen else None
        nets.append([*train(net), torch.get_rng_state()])
        if attachment is not None:
            attachment.detach()
    assert all(torch.equal(a, b) for a, b in zip(*nets, strict=True))


def test_torch_is_as_it_was_when_nobody_listens() -> None:
    before = F.dropout
    attachment = Attachment(Notes())
    assert F.dropout is not before
    attachment.detach()
    assert F.dropout is before
