"""Test ``vario.capture.evaluated``: whose modes an evaluation tells of."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.capture.test_traps import attached


def net() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))


def train(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad()
    F.cross_entropy(model(torch.randn(6, 4)), torch.randint(0, 3, (6,))).backward()
    optimizer.step()


def evaluate(model: Any) -> None:
    with torch.no_grad():
        F.cross_entropy(model(torch.randn(50, 4)), torch.randint(0, 3, (50,)))


def shares(notes: Any) -> list[float]:
    return [r.value for _, readings in notes.read for r in readings if r.series == "mode/eval_share"]


class Average:
    def __init__(self, model: nn.Module) -> None:
        self.module = copy.deepcopy(model).requires_grad_(False).eval()

    def __call__(self, x: torch.Tensor) -> Any:
        return self.module(x)


AVERAGES = {
    "a variable": lambda model: copy.deepcopy(model).eval(),
    "an attribute": Average,
    "torch's own": lambda model: torch.optim.swa_utils.AveragedModel(model).eval(),
}


@pytest.mark.parametrize("kind", AVERAGES)
def test_an_average_in_eval_mode_is_the_one_that_is_asked(kind: str) -> None:
    model = net()
    average: Any = AVERAGES[kind](model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with attached() as notes:
        for _ in range(2):
            train(model, optimizer)
            evaluate(average)
        train(model, optimizer)
    assert shares(notes) == []


@pytest.mark.parametrize("mode", [True, False])
def test_the_watched_model_is_told_of_with_its_mode(mode: bool) -> None:
    model, other = net(), copy.deepcopy(net())  # a copy that is in train mode too takes nobody's place
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with attached() as notes:
        train(model, optimizer)
        model.train(mode)
        evaluate(model)
        train(model.train(), optimizer)
    assert other.training and shares(notes) == [float(mode)]


@pytest.mark.parametrize(("root_too", "told"), [(False, 0.0), (True, 1.0)])
def test_what_is_put_back_into_train_mode_inside_a_model_in_eval_mode_is_meant(
    root_too: bool, told: float
) -> None:
    """Monte Carlo dropout: the modules are the same, and only the model around them tells the two apart."""
    model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 3))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with attached() as notes:
        train(model, optimizer)
        model.eval()
        model[1].train()
        model.training = root_too
        evaluate(model)
        train(model.train(), optimizer)
    assert shares(notes) == [told]


def test_of_two_models_the_one_in_eval_mode_is_asked() -> None:
    first, second = net(), nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Linear(6, 3))
    optimizers = [torch.optim.SGD(model.parameters(), lr=0.1) for model in (first, second)]
    with attached() as notes:
        train(first, optimizers[0])
        train(second, optimizers[1])
        second.eval()
        evaluate(second)
        train(second.train(), optimizers[1])
    assert shares(notes) == [0.0]
