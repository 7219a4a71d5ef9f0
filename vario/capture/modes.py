"""Modes of torch's that a script has switched on: they are to see its calls and none of ours.

A counter of operations would count ours, a default device would hold our tensors. Under `jit.trace`,
`make_fx` and fake tensors calls are only written down: there is nothing to read, and what is read ends up in
the trace. Nor is it a call of the script's when torch runs a function again to compare it with its trace.
Inside a transform of `torch.func` tensors stand for others and have no values of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch.overrides import _pop_mode_temporarily
from torch.utils._python_dispatch import _disable_current_modes

__all__ = ["aside", "comparing", "looked_on", "unseen"]

_transform = torch._C._functorch.peek_interpreter_stack  # that is under way, None outside
_WRITTEN_DOWN = (torch._C._TorchDispatchModeKey.FAKE, torch._C._TorchDispatchModeKey.PROXY)


class _Trace:
    compared = 0  # comparisons that go on


@contextmanager
def comparing() -> Iterator[None]:
    """What is called here is compared with its trace: `unseen` calls nothing."""
    _Trace.compared += 1
    try:
        yield
    finally:
        _Trace.compared -= 1


def unseen(call: Callable[..., Any], *arguments: Any) -> Any:
    """What `call` returns, made while no mode looks on; None, and no call, where nothing has values."""
    if _Trace.compared or torch._C._get_tracing_state() is not None or _transform() is not None:
        return None
    if not looked_on():
        return call(*arguments)
    if any(torch._C._get_dispatch_mode(kind) is not None for kind in _WRITTEN_DOWN):
        return None
    with aside():
        return call(*arguments)


def looked_on() -> bool:
    """Whether any mode sees what is called now."""
    return bool(torch._C._len_torch_function_stack() or torch._C._len_torch_dispatch_stack())


@contextmanager
def aside() -> Iterator[None]:
    """No mode sees what is called in here."""
    with ExitStack() as stack:
        for _ in range(torch._C._len_torch_function_stack()):
            stack.enter_context(_pop_mode_temporarily())
        if torch._C._len_torch_dispatch_stack():
            stack.enter_context(_disable_current_modes())
        yield
