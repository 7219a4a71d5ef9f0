"""Parameters of a model that others move, an optimizer or a hand: this one has not forgotten them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from vario.capture.left_out import tell_of_left_out
from vario.capture.streams import Stream

__all__ = ["tell_of", "tell_of_moved"]


def tell_of(new: Stream, streams: Sequence[Stream], event: Callable[..., Any]) -> None:
    """An optimizer steps for the first time: it and those of the same model are told of one another.

    The model of one may be a part of the other's. An optimizer that was made and never steps holds nothing:
    its parameters are not updated.
    """
    named: dict[int, dict[int, str]] = {}  # of each model: its parameters and their names
    for other in streams:
        if other is new:
            continue
        for stream, held in ((new, other), (other, new)):
            model = stream.model() if stream.model is not None else None
            if model is None:
                continue
            if id(model) not in named:
                named[id(model)] = {id(parameter): name for name, parameter in model.named_parameters()}
            theirs = {id(parameter) for parameter in held.params} - {id(mine) for mine in stream.params}
            names = [name for parameter, name in named[id(model)].items() if parameter in theirs]
            if names:
                event(stream, "held_elsewhere", "", {"names": names})


def tell_of_moved(stream: Stream, event: Callable[..., Any]) -> None:
    """What the optimizer does not hold and was seen to change, at steps that are twice as far each time.

    Sums are kept and no weights; of a model in shards no process knows them alone.
    """
    if stream.step < stream.look_again or stream.sharded:
        return
    first, stream.look_again = not stream.look_again, max(2 * stream.step, 2)
    model = stream.model() if stream.model is not None else None
    mine = {id(parameter) for parameter in stream.params}
    sums = {
        name: _sum(parameter)
        for name, parameter in (model.named_parameters() if model is not None else ())
        if parameter.requires_grad
        and id(parameter) not in mine
        and _is_plain(parameter)
        and (first or name in stream.outside)
    }
    moved = [name for name, value in sums.items() if not first and value != stream.outside[name]]
    stream.outside = {name: value for name, value in sums.items() if name not in moved}
    if moved:
        event(stream, "held_elsewhere", "", {"names": moved})
    tell_of_left_out(stream, event, lambda tensor: _sum(tensor) if _is_plain(tensor) else None)


def _is_plain(parameter: Tensor) -> bool:
    """Whether its sum is at hand: neither a part of a whole, nor without values yet."""
    return type(parameter) in (nn.Parameter, Tensor) and not (
        parameter.is_meta or parameter.is_complex() or parameter.layout is not torch.strided
    )


def _sum(parameter: Tensor) -> float:
    value = float(parameter.detach().sum(dtype=torch.float64))
    return 0.0 if math.isnan(value) else value  # which is not equal to itself
