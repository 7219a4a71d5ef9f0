"""A slower schedule: of the script's calls of ``scheduler.step()`` only every n-th moves the rate.

So a schedule that is written in epochs and stepped after every batch takes the epochs that it was meant for.
"""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable
from typing import Any

from torch.optim.lr_scheduler import LRScheduler

from vario.remedies.slots_built import subclasses
from vario.remedies.slots_told import Told, call_site

__all__ = ["slow_down"]


def slow_down(times: int, told: Told) -> str:
    """From now on; a scheduler made of others counts for all of them."""
    told.expects("schedule", "the script stepped no scheduler of torch")
    calls: weakref.WeakKeyDictionary[Any, int] = weakref.WeakKeyDictionary()
    inside: list[Any] = []

    def slower(original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def step(self: Any, *args: Any, **words: Any) -> Any:
            if not inside and not self._is_initial:  # that of its constructor sets the first rate
                told.put_in("schedule", {"of": type(self).__name__, "slower": times, "call": call_site()})
                calls[self] = calls.get(self, 0) + 1
                if calls[self] % times:
                    return None
            inside.append(self)
            try:
                return original(self, *args, **words)
            finally:
                inside.pop()

        return step

    for kind in [LRScheduler, *subclasses(LRScheduler)]:
        if "step" in kind.__dict__:
            setattr(kind, "step", slower(kind.__dict__["step"]))  # noqa: B010 - a class of torch
    return f"schedule: slower={times}"
