"""Parameters of a model that another optimizer moves: this one has not forgotten them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from vario.capture.streams import Stream

__all__ = ["tell_of"]


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
