"""Test ``vario.capture.answers``: evaluations of loaders that count right answers by hand have a loss."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from tests.capture.test_traps import Notes
from vario.capture.attach import Attachment

X = torch.randn(300, 6, generator=torch.Generator().manual_seed(0))
Y = (X[:, 0] > 0).long()
TRAIN, HELD_OUT = TensorDataset(X[:200], Y[:200]), TensorDataset(X[200:], Y[200:])


class Net(nn.Module):
    def __init__(self, several: str = "") -> None:
        super().__init__()
        self.a, self.drop, self.b = nn.Linear(6, 8), nn.Dropout(0.5), nn.Linear(8, 2)
        self.several = several

    def forward(self, x: Tensor) -> Any:
        h = self.drop(torch.relu(self.a(x)))
        logits = self.b(h).unsqueeze(1)
        if self.several == "dict":
            return {"sums": h.sum(1), "logits": logits, "none": None}
        return (h, logits) if self.several else logits


def run(
    *,
    eval_mode: bool = True,
    listen: bool = True,
    scaled: float = 1.0,
    by_function: bool = False,
    several: str = "",
) -> tuple[list[dict[str, object]], float, list[Tensor], list[Tensor]]:
    """Readings of each evaluation of the held-out loader, the last one's true loss, weights and outputs."""
    torch.manual_seed(0)
    net, notes = Net(several), Notes()
    logits = lambda given: given["logits"] if several == "dict" else given[1] if several else given
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    attachment = Attachment(notes) if listen else None
    train, test = DataLoader(TRAIN, batch_size=20, shuffle=True), DataLoader(HELD_OUT, batch_size=40)
    outputs: list[Tensor] = []
    for _ in range(3):
        net.train()
        for x, y in train:
            optimizer.zero_grad()
            output = logits(net(x)).squeeze(1)
            F.cross_entropy(output if scaled == 1 else scaled * output, y).backward()
            optimizer.step()
        if eval_mode:
            assert net.eval() is net
        outputs.clear()
        with torch.no_grad():
            for x, y in test:
                outputs.append(logits(net(x)).squeeze(1))
                if by_function:
                    F.cross_entropy(outputs[-1], y)
    if attachment is not None:
        attachment.detach()
        assert not notes.failures
    told = [{r.series: r.value for r in read} for _, read in notes.read]
    told = [one for one in told if "eval/examples" in one]
    return told, F.cross_entropy(torch.cat(outputs), Y[200:]).item(), list(net.parameters()), outputs


def test_loss_accuracy_and_mode_are_those_of_the_loss_that_training_takes() -> None:
    told, loss, _, outputs = run()
    assert len(told) == 3 and told[-1]["eval/examples"] == 100
    assert told[-1]["eval/loss"] == pytest.approx(loss, rel=1e-6)
    assert told[-1]["eval/accuracy"] == pytest.approx(
        (torch.cat(outputs).argmax(1) == Y[200:]).float().mean()
    )
    assert told[-1]["mode/eval_share"] == 0.0
    assert told[-1]["eval/seen_share"] == 0.0


@pytest.mark.parametrize("several", ["tuple", "dict"])
def test_of_several_outputs_it_is_the_one_that_training_takes_the_loss_of(several: str) -> None:
    told, loss, _, _ = run(several=several)
    assert len(told) == 3 and told[-1]["eval/loss"] == pytest.approx(loss, rel=1e-6)


def test_an_evaluation_without_eval_is_told_with_its_mode() -> None:
    told, loss, _, _ = run(eval_mode=False)
    assert told[-1]["eval/loss"] == pytest.approx(loss, rel=1e-6)
    assert told[-1]["mode/eval_share"] == 1.0


def test_where_the_script_calls_a_loss_function_nothing_is_told_twice() -> None:
    told, loss, _, _ = run(by_function=True)
    assert len(told) == 3 and told[-1]["eval/loss"] == pytest.approx(loss, rel=1e-6)


def test_nothing_is_said_where_training_does_something_to_the_output_first() -> None:
    assert not [one for one in run(scaled=2.0)[0] if "eval/loss" in one]


@pytest.mark.parametrize("added", [[0.0, -2.0], [0.5, 0.5], None])
def test_what_training_adds_to_the_output_of_each_class_is_told_once(added: list[float] | None) -> None:
    torch.manual_seed(0)
    net, notes = nn.Linear(6, 2), Notes()
    optimizer, attachment = torch.optim.SGD(net.parameters(), lr=0.1), Attachment(notes)
    for x, y in DataLoader(TRAIN, batch_size=20):
        output = net(x)
        F.cross_entropy(output + torch.tensor(added) if added else 2 * output, y).backward()
        optimizer.step()
        optimizer.zero_grad()
    attachment.detach()
    assert not notes.failures
    told = [data["added"] for _, kind, _, data in notes.happened if kind == "class_shift"]
    if added == [0.0, -2.0]:
        assert len(told) == 1 and told[0] == pytest.approx(added, abs=1e-5)
    else:  # the same number for all says nothing of a class, and twice the output is no shift
        assert not told


def test_the_run_is_that_of_the_script_alone() -> None:
    for mine, bare in zip(run(), run(listen=False), strict=True):
        if isinstance(mine, list) and mine and isinstance(mine[0], Tensor):
            assert all(torch.equal(a, b) for a, b in zip(mine, bare, strict=True))


def test_shapes_that_pair_all_with_all_are_judged_as_training_did_and_warned_of_by_the_script_alone() -> None:
    """Outputs (N, 1) beside targets (N): torch warns where the loss is called, and nothing of ours."""

    def trained(listen: bool) -> tuple[list[str], list[float]]:
        torch.manual_seed(0)
        net, notes = nn.Linear(6, 1), Notes()
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        attachment = Attachment(notes) if listen else None
        numbers = TensorDataset(X, X[:, 0].clone())
        train, test = DataLoader(numbers, batch_size=20), DataLoader(numbers, batch_size=30)
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            for _ in range(3):
                for x, y in train:
                    optimizer.zero_grad()
                    F.mse_loss(net(x), y).backward()
                    optimizer.step()
                with torch.no_grad():
                    sum((net(x)[:, 0] - y).abs().sum() for x, y in test)
        if attachment is not None:
            attachment.detach()
            assert not notes.failures
        losses = [r.value for _, read in notes.read for r in read if r.series == "eval/loss"]
        return [str(one.message) for one in warned], losses

    bare, _ = trained(False)
    warned, losses = trained(True)
    assert warned == bare and len(bare) == 45
    assert losses and all(loss > 0.5 for loss in losses)  # the spread of all targets around each output
