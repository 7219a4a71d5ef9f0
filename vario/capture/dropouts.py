"""Dropout that is called as a function: it is in no list of modules, so its calls are heard.

Every strength that training uses is told once. Without gradients the last call before an evaluation loss
says whether the model was in train mode: `F.dropout` drops unless it is told that training is over.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

__all__ = ["Dropouts"]

MOST = 16  # strengths: a schedule of them may have as many as steps
KIND = "Dropout (function)"


class Dropouts:
    """`happened(kind, where, data)` is told of "dropout" events."""

    def __init__(self, happened: Callable[[str, str, dict[str, Any]], None]) -> None:
        self._happened = happened
        self._known: set[tuple[str, float]] = set()
        self._drops = False  # whether the last call without gradients dropped anything

    def called(
        self, name: str, function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> None:
        """One call of torch's dropout functions, but for those of modules."""
        defaults = _defaults(function)
        given = {**defaults, **dict(zip(defaults, args, strict=False)), **kwargs}
        p, drops = float(given["p"]), bool(given["training"]) and float(given["p"]) > 0
        if not torch.is_grad_enabled():
            self._drops = drops
        elif drops and (name, p) not in self._known and len(self._known) < MOST:
            self._known.add((name, p))
            self._happened("dropout", "", {"function": name, "p": p})

    def modes(self) -> dict[str, tuple[int, int]]:
        """As modules that depend on the mode are counted: how many are in train mode, of how many."""
        return {KIND: (1, 1)} if self._drops else {}


@functools.cache
def _defaults(function: Callable[..., Any]) -> dict[str, Any]:
    return {name: parameter.default for name, parameter in inspect.signature(function).parameters.items()}
