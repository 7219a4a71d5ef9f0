"""Parameters of a model that another optimizer moves: this one has not forgotten them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from vario.capture.streams import Stream

__all__ = ["tell_of"]


def tell_of(new: Stream, streams: Sequence[Stream], event: Callable[..., Any]) -> None:
    """An optimizer steps for the first time: it and those of the same model are told of one another.

    An optimizer that was made and never steps holds nothing: its parameters are not updated.
    """
    model = new.model() if new.model is not None else None
    if model is None:
        return
    for other in streams:
        if other is not new and other.model is not None and other.model() is model:
            for stream, held in ((new, other), (other, new)):
                mine = {id(parameter) for parameter in stream.params}
                pairs = zip(held.names, held.params, strict=True)
                names = [name for name, parameter in pairs if id(parameter) not in mine]
                event(stream, "held_elsewhere", "", {"names": names})
