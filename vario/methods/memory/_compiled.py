"""A small kernel, compiled on first use where a compiler is at hand, and eager where none is."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch

_FAILED: list[str] = []  # the first reason; one failure means that the machine cannot compile


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """``function`` with a compiled twin; the result takes ``eager=True`` to leave the twin alone."""
    twin = torch.compile(function, dynamic=True, fullgraph=True)

    def call(*arguments: Any, eager: bool = False) -> Any:
        if eager or _FAILED or torch.compiler.is_compiling():
            return function(*arguments)
        try:
            return twin(*arguments)
        except Exception as error:  # inductor has no one class for "no compiler here"
            if not type(error).__module__.startswith("torch._"):
                raise
            _FAILED.append(f"{type(error).__name__}: {error}".splitlines()[0])
            warnings.warn(
                f"{function.__name__} could not be compiled and runs eagerly, which is many times slower "
                f"({_FAILED[0]}). A C++ compiler is what it needs.",
                RuntimeWarning,
                stacklevel=3,
            )
            return function(*arguments)

    return call
