"""The loss slot: the training loss of a script that calls torch's cross entropy.

Only calls with gradients recorded are changed, so that a held-out loss keeps its meaning in both arms.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch

from vario.remedies.slots_optimizer import target_of
from vario.remedies.slots_told import Told, call_site

__all__ = ["replace_loss", "set_loss"]


def set_loss(key: str, value: Any, told: Told) -> str:
    """``label_smoothing=0.1`` for every cross entropy in training."""

    def change(original: Callable[..., Any], bound: inspect.BoundArguments) -> Any:
        before = bound.arguments.get(key, 0.0)
        bound.arguments[key] = value
        told.put_in("loss", {"setting": key, "before": before, "after": value, "call": call_site()})
        return original(*bound.args, **bound.kwargs)

    _patch(told, change)
    return f"loss: {key}={value}"


def replace_loss(method: str, options: Mapping[str, Any], told: Told) -> str:
    """The method's loss in place of every cross entropy in training."""
    target = target_of(method)
    known = inspect.signature(target).parameters
    made: dict[tuple[Any, ...], Callable[..., Any]] = {}

    def change(original: Callable[..., Any], bound: inspect.BoundArguments) -> Any:
        del original
        bound.apply_defaults()
        output, aim, *_ = bound.arguments.values()
        words = {
            k: v for k, v in bound.arguments.items() if k in known and k in ("reduction", "ignore_index")
        }
        words |= dict(options)
        left = [k for k in ("weight", "label_smoothing") if bound.arguments.get(k)]
        if left:
            told.fail("loss", f"the script's cross entropy has {' and '.join(left)}, which {method} has not")
        key = tuple(sorted(words.items()))
        try:
            if isinstance(target, type):
                made[key] = made.get(key) or target(**words)
                value = made[key](output, aim)
            else:
                value = target(output, aim, **words)
        except (TypeError, ValueError) as error:
            told.fail("loss", f"{type(error).__name__}: {error}")
        told.put_in("loss", {"from": "cross_entropy", "to": method, "call": call_site()})
        return value

    _patch(told, change)
    return f"loss: {method}"


def _patch(told: Told, change: Callable[[Callable[..., Any], inspect.BoundArguments], Any]) -> None:
    told.expects("loss", "the script called no torch.nn.functional.cross_entropy (or CrossEntropyLoss)")
    original = torch.nn.functional.cross_entropy
    place = inspect.signature(original)

    @functools.wraps(original)
    def cross_entropy(*args: Any, **words: Any) -> Any:
        if not torch.is_grad_enabled():
            return original(*args, **words)
        return change(original, place.bind(*args, **words))

    torch.nn.functional.cross_entropy = cross_entropy
