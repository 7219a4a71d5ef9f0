"""Test ``vario.capture.gradients_on``: losses that no backward follows are of an evaluation."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from tests.capture.test_traps import Notes
from vario.capture.attach import Attachment

X = torch.randn(300, 6, generator=torch.Generator().manual_seed(0))
Y = (X[:, 0] > 0).long()
TRAIN, HELD_OUT = TensorDataset(X[:200], Y[:200]), TensorDataset(X[200:], Y[200:])
WANTED = frozenset({"losses", "loss_calls"})


def train(
    *, loaders: bool, evaluate: bool = True, eval_mode: bool = True, anew: bool = False, attack: bool = False
) -> tuple[list[dict[str, float]], list[float], Notes]:
    """What was told of evaluations, their true losses, and the notes of the steps."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 8), nn.Dropout(0.1), nn.ReLU(), nn.Linear(8, 2))
    optimizer, notes, truth = torch.optim.SGD(net.parameters(), lr=0.1), Notes(WANTED), []
    attachment = Attachment(notes)
    batches = DataLoader(TRAIN, batch_size=20, shuffle=True) if loaders else X[:200].split(20)
    test = DataLoader(HELD_OUT, batch_size=40)
    for _ in range(3):
        net.train()
        if anew:
            batches = DataLoader(TRAIN, batch_size=20, shuffle=True)
        for i, batch in enumerate(batches):
            x, y = batch if loaders else (batch, Y[20 * i : 20 * i + 20])
            if attack:
                net.eval()
                x = x.clone().requires_grad_()
                x = (x + 0.1 * torch.autograd.grad(F.cross_entropy(net(x), y), x)[0].sign()).detach()
                net.train()
            optimizer.zero_grad()
            F.cross_entropy(net(x), y).backward()
            optimizer.step()
        if eval_mode:
            net.eval()
        if evaluate:
            held_out = test if loaders else [(X[200:], Y[200:])]
            losses = [(F.cross_entropy(net(x), y).item(), len(y)) for x, y in held_out]
            truth.append(sum(loss * n for loss, n in losses) / sum(n for _, n in losses))
    attachment.detach()
    assert not notes.failures, notes.failures
    told = [
        {r.series: float(r.value) for r in read if not isinstance(r.value, list)} for _, read in notes.read
    ]
    return [one for one in told if "eval/loss" in one], truth, notes


def calls(notes: Notes) -> list[int]:
    return [len(raw["loss_calls"]) for _, _, raw in notes.steps if "loss_calls" in raw]


@pytest.mark.parametrize("loaders", [True, False])
def test_an_evaluation_that_leaves_gradients_on_is_told(loaders: bool) -> None:
    told, truth, notes = train(loaders=loaders)
    assert [one["eval/loss"] for one in told] == pytest.approx(truth, rel=1e-5)
    assert [one["eval/examples"] for one in told] == [100.0] * 3
    assert all(one["mode/eval_share"] == 0.0 for one in told)
    assert set(calls(notes)) == {1}  # none of them is mixed with those of training


def test_its_mode_is_that_of_the_time_when_the_model_was_asked() -> None:
    told, _, _ = train(loaders=True, eval_mode=False)
    assert [one["mode/eval_share"] for one in told] == [1.0] * 3


@pytest.mark.parametrize("loaders", [True, False])
def test_training_in_eval_mode_is_no_evaluation(loaders: bool) -> None:
    torch.manual_seed(0)
    told, _, notes = train(loaders=loaders, evaluate=False)
    assert not told and set(calls(notes)) == {1}


def test_training_on_a_loader_that_is_made_anew_is_no_evaluation() -> None:
    told, _, notes = train(loaders=True, evaluate=False, anew=True)
    assert not told and set(calls(notes)) == {1}


def test_an_attack_in_eval_mode_is_no_evaluation() -> None:
    told, _, _ = train(loaders=False, evaluate=False, attack=True)
    assert not told
