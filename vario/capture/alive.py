"""Which modules and optimizers there are: those made while we listen are known, others are searched for.

A search goes through every object of the process, some tenth of a second after torch's imports.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import Any
from weakref import WeakValueDictionary

from torch import nn
from torch.optim.optimizer import Optimizer

__all__ = ["forget", "known", "module_grew", "optimizer_made", "searched"]

_modules: WeakValueDictionary[int, nn.Module] = WeakValueDictionary()
_optimizers: WeakValueDictionary[int, Optimizer] = WeakValueDictionary()


def module_grew(module: nn.Module, name: str, part: Any) -> None:
    """A parameter or a module becomes a part of `module`; as a hook of torch's it changes nothing."""
    del name, part
    _modules[id(module)] = module


def optimizer_made(optimizer: Optimizer) -> None:
    """It begins to exist."""
    _optimizers[id(optimizer)] = optimizer


def known() -> tuple[list[nn.Module], list[Optimizer]]:
    """What was made since we listen and still lives. Copies and what is unpickled are not told of."""
    return list(_modules.values()), [one for one in _optimizers.values() if "param_groups" in one.__dict__]


def searched() -> tuple[list[nn.Module], list[Optimizer]]:
    """All of them."""
    modules, optimizers = [], []
    for thing, kind in _things():
        if issubclass(kind, nn.Module):
            if "_parameters" in thing.__dict__:
                modules.append(thing)
        elif issubclass(kind, Optimizer) and "param_groups" in thing.__dict__:
            optimizers.append(thing)
    return modules, optimizers


def forget() -> None:
    """Nobody listens any more."""
    _modules.clear()
    _optimizers.clear()


def _things() -> Iterator[tuple[Any, type]]:
    """Never isinstance: lazy proxies answer `__class__` by importing things."""
    return ((thing, type(thing)) for thing in gc.get_objects())
