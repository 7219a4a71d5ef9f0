"""A small kernel, compiled on first use where a compiler is at hand, and eager where none is."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any

import torch

_FAILED: list[str] = []  # the first reason; one failure means that the machine cannot compile


# nothing is written out between the operations, however many they are
ONE_LOOP = {f"realize_{what}_threshold": 1000 for what in ("opcount", "reads", "acc_reads")}


def compiled(function: Callable[..., Any], *, in_one_loop: bool = False) -> Callable[..., Any]:
    """``function`` with a compiled twin; the result takes ``eager=True`` to leave the twin alone."""

    @functools.cache
    def twin() -> Callable[..., Any]:  # made on first use: torch.compile takes seconds to import
        options: dict[str, Any] | None = dict(ONE_LOOP) if in_one_loop else None
        return torch.compile(function, dynamic=True, fullgraph=True, options=options)

    def call(*arguments: Any, eager: bool = False) -> Any:
        if eager or _FAILED or torch.compiler.is_compiling():
            return function(*arguments)
        try:
            return twin()(*arguments)
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
