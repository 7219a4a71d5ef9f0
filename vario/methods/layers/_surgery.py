"""Changing the layers of a model in place: what was changed is reported, and can be undone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from torch import nn


@dataclass
class Surgery:
    """Names of the modules that were replaced; ``undo()`` puts the old ones back."""

    model: nn.Module
    old: dict[str, nn.Module] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.old)

    def undo(self) -> None:
        """Put the replaced modules back where they were; they share parameters with the new ones."""
        for name, module in self.old.items():
            _put(self.model, name, module)
        self.old = {}


def replace(model: nn.Module, wanted: Callable[[nn.Module], bool], make: Callable[..., nn.Module]) -> Surgery:
    """Replace every module that ``wanted`` knows; a module that sits in two places stays one module."""
    done = Surgery(model)
    made: dict[int, nn.Module] = {}
    for name, module in list(model.named_modules(remove_duplicate=False)):
        if name and wanted(module):
            if id(module) not in made:
                made[id(module)] = make(module)
            done.old[name] = module
            _put(model, name, made[id(module)])
    return done


def _put(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, last = name.rpartition(".")
    setattr(model.get_submodule(parent), last, module)
