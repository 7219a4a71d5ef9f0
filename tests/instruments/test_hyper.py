from __future__ import annotations

import torch
from torch import nn

from tests.instruments.sample import read
from vario.instruments.hyper import Hyper


def settings(optimizer: torch.optim.Optimizer) -> dict[str, float]:
    found = read(Hyper(), groups=optimizer.param_groups)
    assert all(where == "group 0" for _, where in found)
    return {series.removeprefix("hyper/"): value for (series, _), value in found.items()}


def test_adam_has_all_of_them() -> None:
    optimizer = torch.optim.AdamW(
        [nn.Parameter(torch.ones(2))], lr=0.3, betas=(0.8, 0.95), eps=1e-7, weight_decay=0.2
    )
    wanted = {"lr": 0.3, "momentum": 0.8, "beta2": 0.95, "eps": 1e-7, "weight_decay": 0.2}
    assert settings(optimizer) == wanted


def test_sgd_has_neither_epsilon_nor_squares() -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.ones(2))], lr=0.1, momentum=0.9)
    assert settings(optimizer) == {"lr": 0.1, "momentum": 0.9, "weight_decay": 0}


def test_the_decay_of_squares_goes_by_other_names_too() -> None:
    optimizer = torch.optim.RMSprop([nn.Parameter(torch.ones(2))], lr=0.1, alpha=0.97)
    assert settings(optimizer)["beta2"] == 0.97


def test_each_group_has_its_own_and_a_rate_may_be_a_tensor() -> None:
    groups = [{"lr": torch.tensor(0.5)}, {"lr": 0.25}, {"lr": None, "betas": ()}]
    assert read(Hyper(), groups=groups) == {("hyper/lr", "group 0"): 0.5, ("hyper/lr", "group 1"): 0.25}


def test_it_is_silent_without_an_optimizer() -> None:
    assert read(Hyper()) == {}
