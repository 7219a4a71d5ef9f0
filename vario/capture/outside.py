"""Calls of compiled models, heard from outside: there no tracer is at work.

Hooks that are set on modules are traced with them, and the compiler warns of them. So from the first call of
`torch.compile` on, who listens to forward hears whole calls of what was compiled, and nothing of its parts.
Where a region is captured into a CUDA graph not even these: its next call writes over what it gave.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

__all__ = ["compiles", "forget", "is_where_we_are", "listen", "look"]

Hear = Callable[[Any, Any], None]
_GRAPHED = ("reduce-overhead", "max-autotune")  # modes that capture CUDA graphs


class _Listening:
    """Whether we are outside, and who listens: before a call and after it."""

    here = False
    to: tuple[list[Hear], list[Hear]] = ([], [])


def look(model: nn.Module | None) -> None:
    """A model that is about to be watched may have been compiled before: then nothing of it is heard."""
    modules = [] if model is None else list(model.modules())
    if any(type(m).__name__ == "OptimizedModule" or m._compiled_call_impl is not None for m in modules):
        _Listening.here = True


def forget() -> None:
    """Nobody listens any more."""
    _Listening.here = False


def is_where_we_are() -> bool:
    """Whether what is heard of modules are calls of compiled ones."""
    return _Listening.here


def listen(hear: Hear, *, after: bool) -> Callable[[], None]:
    """Until the returned is called: `hear(module, arguments)` of each call, or `after` it of its output."""
    hears = _Listening.to[after]
    hears.append(hear)
    return lambda: hears.remove(hear) if hear in hears else None


def compiles(
    original: Callable[..., Any], *, tell: Callable[..., None], awake: Callable[[], bool]
) -> Callable[..., Any]:
    """`torch.compile` that tells of itself, `tell("compiled", model)`, and of the calls of what it made."""

    def compile(*args: Any, **kwargs: Any) -> Any:
        model, made = args[0] if args else kwargs.get("model"), original(*args, **kwargs)
        if model is None or made is model:  # a decorator, which comes back through here; switched off
            return made
        _Listening.here = True
        tell("compiled", model)
        return _heard(made, model, kwargs, tell, awake)

    return compile


def _heard(
    made: Any, what: Any, options: Mapping[str, Any], tell: Callable[..., None], awake: Callable[[], bool]
) -> Any:
    """What was `made` of a module or one of its methods, so that calls of it are heard.

    `tell("answered_outside", module, args, kwargs, output)` comes after each call that matters.
    """
    module = what if isinstance(what, nn.Module) else getattr(what, "__self__", None)
    more = options.get("options") or {}
    if not isinstance(module, nn.Module) or options.get("mode") in _GRAPHED or more.get("triton.cudagraphs"):
        return made
    inner = made.forward if isinstance(made, nn.Module) else made

    @functools.wraps(inner)
    def forward(*args: Any, **kwargs: Any) -> Any:
        if torch.compiler.is_compiling() or (torch.is_grad_enabled() and not awake()):
            return inner(*args, **kwargs)
        for hear in tuple(_Listening.to[False]):
            hear(module, args)
        output = inner(*args, **kwargs)
        for hear in tuple(_Listening.to[True]):
            hear(module, output)
        tell("answered_outside", module, args, kwargs, output)
        return output

    if not isinstance(made, nn.Module):
        return forward
    made.forward = forward
    return made
