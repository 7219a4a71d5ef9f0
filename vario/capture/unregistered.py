"""Parameters that a model holds in plain lists and dicts: it does not know them, and so no optimizer does.

``self.layers = [nn.Linear(4, 4)]`` runs, and never learns: ``model.parameters()`` finds only what is an
attribute itself or lies in an ``nn.ModuleList``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor, nn

from vario.capture import alive

__all__ = ["unregistered"]

MOST = 1_000  # things in one list


def unregistered(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Name and parameter of each that has a gradient, as in ``layers[0].weight``, and is in no optimizer.

    Without a gradient it may be kept there on purpose: a teacher, a copy, what compares pictures.
    """
    given = {id(p) for one in alive.known()[1] for group in one.param_groups for p in group["params"]}
    given |= {id(parameter) for parameter in model.parameters()}
    for path, module in model.named_modules():
        for name, value in list(vars(module).items()):
            if name.startswith("_"):  # torch's own: what is in there is registered
                continue
            for place, part in _parts(value):
                start = f"{path}.{name}{place}" if path else f"{name}{place}"
                for end, parameter in _parameters(part):
                    if parameter.grad is not None and id(parameter) not in given:
                        given.add(id(parameter))
                        yield start + end, parameter


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    kind = type(value)  # never isinstance: lazy proxies answer `__class__` by importing things
    if issubclass(kind, list | tuple):
        yield from ((f"[{i}]", part) for i, part in enumerate(value[:MOST]))
    elif issubclass(kind, Mapping) and len(value) <= MOST:
        yield from ((f"[{key!r}]", part) for key, part in value.items())


def _parameters(part: Any) -> Iterator[tuple[str, Tensor]]:
    if issubclass(type(part), nn.Module):
        yield from ((f".{name}", parameter) for name, parameter in part.named_parameters())
    elif issubclass(type(part), nn.Parameter):
        yield "", part
