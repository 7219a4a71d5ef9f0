"""Test ``vario.capture.elsewhere``: what other optimizers and hands move is told."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from vario.capture.elsewhere import tell_of, tell_of_moved


def stream(name: str, model: nn.Module | None, params: list[nn.Parameter]) -> Any:
    return SimpleNamespace(name=name, model=None if model is None else lambda: model, params=params)


def told(new: Any, *others: Any) -> list[tuple[str, list[str]]]:
    heard: list[tuple[str, list[str]]] = []
    tell_of(new, [*others, new], lambda to, kind, where, data: heard.append((to.name, data["names"])))
    return heard


def test_the_optimizer_of_a_part_is_told_of_that_of_the_whole_each_in_its_own_names() -> None:
    whole = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 3))
    one = stream("part", whole[0], [whole[0].weight])
    other = stream("whole", whole, [whole[0].bias, *whole[1].parameters()])
    assert told(other, one) == [("whole", ["0.weight"]), ("part", ["bias"])]


def test_models_that_share_nothing_and_what_is_held_twice_are_not_told() -> None:
    one, other = nn.Linear(4, 8), nn.Linear(8, 3)
    assert told(stream("a", one, [*one.parameters()]), stream("b", other, [*other.parameters()])) == []
    assert told(stream("a", one, [*one.parameters()]), stream("b", one, [*one.parameters()])) == []
    assert told(stream("a", None, [one.weight]), stream("b", None, [one.bias])) == []


def looks(model: Any, params: Any, move: Any, steps: int = 20, **more: Any) -> Any:
    """What is told after each of ``steps`` steps, between which ``move(step)`` has the model."""
    one: Any = SimpleNamespace(
        model=lambda: model, params=params, step=0, look_again=0, outside={}, sharded=False
    )
    vars(one).update(left_out={}, told_left_out={}, **more)
    heard: list[tuple[int, list[str]]] = []
    for one.step in range(steps):
        tell_of_moved(one, lambda to, kind, where, data: heard.append((to.step, data["names"])))
        with torch.no_grad():
            move(one.step)
    return heard


def test_what_the_script_moves_by_hand_is_told_once_and_what_stays_is_not() -> None:
    model: Any = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 3), nn.Linear(3, 2))
    held = [*model[0].parameters()]
    assert looks(model, held, lambda step: model[1].weight.data.sub_(0.1)) == [(2, ["1.weight"])]
    late = looks(model, held, lambda step: step == 9 and model[2].bias.add_(1.0))
    assert late == [(16, ["2.bias"])]  # looked at after 2, 4, 8 and 16 steps
    assert looks(model, held, lambda step: model[0].weight.mul_(0.9)) == []  # it is the optimizer's
    with torch.no_grad():
        model[1].weight[0, 0] = torch.nan
    assert looks(model, held, lambda step: None) == []
    model[1].weight.requires_grad_(False)
    assert looks(model, held, lambda step: model[1].weight.fill_(step)) == []  # asks for no gradient


@pytest.mark.parametrize("strange", [nn.LazyLinear(3), nn.Linear(8, 3, device="meta")])
def test_parameters_without_values_and_parts_of_a_whole_are_left_alone(strange: nn.Module) -> None:
    model: Any = nn.Sequential(nn.Linear(4, 8), strange, nn.Linear(3, 2))
    seen = looks(model, [*model[0].parameters()], lambda step: model[2].bias.add_(1.0))
    assert seen == [(2, ["2.bias"])]
    assert looks(model, [], lambda step: model[2].bias.add_(1.0), sharded=True) == []
