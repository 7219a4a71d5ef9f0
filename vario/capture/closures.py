"""Steps that are given a closure, and steps within steps."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

from torch.optim.optimizer import Optimizer

__all__ = ["given_closure", "nested", "with_closure"]

_OPTIMIZER_FILE = Optimizer.profile_hook_step.__code__.co_filename


def given_closure(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Callable[..., Any] | None:
    """The closure among the arguments of a step, its optimizer first."""
    closure = args[1] if len(args) > 1 else kwargs.get("closure")
    return closure if callable(closure) else None


def with_closure(args: tuple[Any, ...], kwargs: dict[str, Any], first_time: Callable[[], None]) -> Any:
    """The step's arguments with a closure that calls `first_time` after its first run; None without one.

    LBFGS runs its closure many times; the gradient of the step is the one where it starts.
    """
    closure = given_closure(args, kwargs)
    if closure is None:
        return None
    waiting = [first_time]

    def listening(*given: Any, **named: Any) -> Any:
        value = closure(*given, **named)
        if waiting:
            waiting.pop()()
        return value

    if len(args) > 1:
        return (args[0], listening, *args[2:]), kwargs
    return args, {**kwargs, "closure": listening}


def nested() -> bool:
    """Whether a step runs within another: a wrapper's, or a subclass's that calls its parent's.

    Not so where we only believe to be in a step because the last one raised.
    """
    frame: FrameType | None = sys._getframe(1)
    count = 0
    while frame is not None and count < 2:
        count += frame.f_code.co_name == "wrapper" and frame.f_code.co_filename == _OPTIMIZER_FILE
        frame = frame.f_back
    return count > 1
