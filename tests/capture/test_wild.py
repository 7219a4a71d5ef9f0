"""What a batch held whose loss stands out is told, while it is known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from tests.capture.test_every_loss import Kept
from vario.capture import wild
from vario.capture.attach import Attachment
from vario.capture.streams import Stream

STRANGE = 77


class Told(Kept):
    """Keeps what is told of wild batches."""

    def __init__(self, *, idle: bool = True) -> None:
        super().__init__(1, idle, False)
        self.wild: list[tuple[str, dict[str, Any]]] = []

    def event(self, stream: Stream, kind: str, where: str, data: dict[str, Any]) -> None:
        if kind == "wild_batch":
            self.wild.append((where, data))


def train(
    target: float,
    *,
    idle: bool = True,
    epochs: int = 8,
    parts: int = 1,
    by_hand: bool = False,
    batch: int = 8,
) -> tuple[Told, list[float], list[list[int]]]:
    """A regression on 160 rows, one of which has another target; what was told, and what was true."""
    torch.manual_seed(0)
    x = torch.randn(160, 4)
    y = x.sum(1, keepdim=True) + 0.1 * torch.randn(160, 1)
    y[STRANGE] = target
    model = nn.Linear(4, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    loader = DataLoader(TensorDataset(torch.arange(160), x, y), batch, shuffle=True)
    observer, losses, batches = Told(idle=idle), [], []
    attachment = Attachment(observer)
    for _ in range(epochs):
        for at, (which, inputs, targets) in enumerate(loader):
            loss = nn.functional.mse_loss(model(inputs), targets)
            (loss / parts).backward()
            losses.append(loss.item())
            batches.append(which.tolist())
            if (at + 1) % parts == 0:
                nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                if by_hand:
                    with torch.no_grad():
                        for parameter in model.parameters():
                            parameter -= 0.01 * parameter.grad
                else:
                    optimizer.step()
                optimizer.zero_grad()
    attachment.detach()
    assert not observer.failures
    return observer, losses, batches


@pytest.mark.parametrize("idle", [True, False], ids=["dozing", "heard"])
def test_each_batch_with_the_strange_example_is_told_with_all_it_held(idle: bool) -> None:
    told, losses, batches = train(100.0, idle=idle)
    later = [step for step, held in enumerate(batches) if STRANGE in held and step >= wild.WINDOW]
    assert len(later) == 5 or len(later) == 6
    assert [data["step"] for _, data in told.wild] == later
    for where, data in told.wild:
        assert where == "loader 0"
        assert data["examples"] == batches[data["step"]]
        assert data["loss"] == pytest.approx(losses[data["step"]])


def test_where_none_is_strange_nothing_is_told() -> None:
    assert not train(0.0)[0].wild


def test_the_first_batch_whose_loss_is_no_number_is_told_and_no_other() -> None:
    told, losses, batches = train(float("nan"))
    first = next(step for step, loss in enumerate(losses) if loss != loss)
    assert [data["step"] for _, data in told.wild] == [first]
    assert told.wild[0][1]["loss"] is None and STRANGE in batches[first]


@pytest.mark.parametrize(
    "how", [{"parts": 2, "epochs": 20}, {"by_hand": True}], ids=["accumulated", "by hand"]
)
def test_what_is_not_known_for_certain_is_not_told(how: dict[str, Any]) -> None:
    """Of a step of two batches the last alone is in hand; by hand it is the next one by then."""
    told, *_ = train(100.0, **how)
    assert told.found and not told.wild


@pytest.mark.parametrize(("draws", "told"), [(np.int64, True), (str, False), (lambda i: (i, i), False)])
def test_a_sampler_may_draw_anything(draws: Any, told: bool) -> None:
    observer = Told()
    stream: Any = None
    wild_ = wild.Wild()
    for step in range(100):
        loss = 50.0 if step == 80 else 1.0 + step % 2
        wild_.look(stream, observer, step, loss, ("loader 0", [draws(step)]))
    assert [data for _, data in observer.wild] == (
        [{"step": 80, "loss": 50.0, "examples": [80]}] if told else []
    )


def test_there_are_not_more_than_a_record_can_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wild, "MOST", 1)
    steps = [data["step"] for _, data in train(100.0, epochs=200)[0].wild]
    assert 8 < len(steps) <= 12, "one more whenever the run has doubled"
    monkeypatch.setattr(wild, "EXAMPLES", 7)
    assert not train(100.0)[0].wild
