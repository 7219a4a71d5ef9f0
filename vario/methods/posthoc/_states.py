"""Arithmetic on state dicts: sums, differences, and the way back into a model.

Floating entries are worked on in at least float32 and come back in their own dtype. The others (counters of
batch norm) cannot be averaged and are taken from one of the states.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn

State = Mapping[str, Tensor]
Model = TypeVar("Model", nn.Module, dict[str, Tensor])


def state_of(model: nn.Module | State) -> dict[str, Tensor]:
    """The entries of a model or a state dict, without gradients; not copied."""
    held = model.state_dict() if isinstance(model, nn.Module) else model
    return {name: value.detach() for name, value in held.items()}


def same_entries(name: str, states: Sequence[State]) -> None:
    """Refuses states that do not have the same entries of the same shapes."""
    first = states[0]
    for k, other in enumerate(states[1:], start=1):
        lacking = sorted(set(first) ^ set(other))
        if lacking:
            raise ValueError(f"{name}: model 0 and model {k} do not share the entries {lacking[:3]}.")
        for key, value in first.items():
            if value.shape != other[key].shape:
                raise ValueError(
                    f"{name}: {key} is {tuple(value.shape)} in model 0 and {tuple(other[key].shape)} in "
                    f"model {k}. Only models of one architecture can be combined."
                )


def wide(value: Tensor) -> Tensor:
    """At least float32."""
    return value.to(torch.promote_types(value.dtype, torch.float32))


def each(states: Sequence[State], change: Callable[..., Tensor]) -> dict[str, Tensor]:
    """``change(a, b, ...)`` of every floating entry; the others are those of the last state."""
    new = {}
    for name, value in states[0].items():
        if value.is_floating_point():
            new[name] = change(*(wide(state[name]) for state in states)).to(value.dtype)
        else:
            new[name] = states[-1][name].clone()
    return new


def average(states: Sequence[State]) -> dict[str, Tensor]:
    return each(states, lambda *values: torch.stack(values).mean(dim=0))


def rebuild(like: Model, state: dict[str, Tensor]) -> Model:
    """A copy of the model with this state, or the state itself where a state dict was given."""
    if not isinstance(like, nn.Module):
        return state
    new = copy.deepcopy(like)
    new.load_state_dict(state)
    return new
