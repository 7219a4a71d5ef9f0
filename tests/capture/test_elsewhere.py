"""Test ``vario.capture.elsewhere``: optimizers of a model and of a part of it are told of one another."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from torch import nn

from vario.capture.elsewhere import tell_of


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
