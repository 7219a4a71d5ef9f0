"""How many terms a loss adds up, read from its autograd graph: 1 for a mean of any length, N for a sum of N.

A loss that is a sum over what a step has (the steps of an episode, the words of a line) grows with their
number, whatever becomes of each. Two steps are alike only after it is divided by that number.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import torch
from torch import Tensor

from vario.capture.shards import is_here

__all__ = ["terms_of"]

# What is looked through from the loss down: each entry of the result is an entry below, or entries added.
_SAME = frozenset(
    "Neg View UnsafeView ReshapeAlias T Transpose Permute Clone ToCopy Squeeze Unsqueeze Alias".split()
)
_ADDED = frozenset({"Add", "Sub"})
_JOINED = frozenset({"Stack", "Cat"})
_SUMMED, _AVERAGED = "Sum", "Mean"
_SCALED = frozenset({"Mul", "Div"})
_BY_REDUCTION = frozenset(  # these take the mean or the sum themselves
    """MseLoss SmoothL1Loss HuberLoss BinaryCrossEntropy BinaryCrossEntropyWithLogits NllLoss NllLoss2D
    SoftMarginLoss""".split()
)
_SUM = 2  # of at::Reduction
_FAR = 20_000  # nodes: a graph whose sums fork ever again is given up
_FEW = 8  # of many terms that are joined: they are alike


def terms_of(loss: Any) -> float:
    """The sum of the factors that terms have in the loss, of those of one kind that have the most entries.

    A kind is the operation that gave them. NaN where the graph does not tell.
    """
    if not isinstance(loss, Tensor) or loss.grad_fn is None or loss.numel() != 1:
        return math.nan
    entries: dict[str, float] = {}
    weights: dict[str, float] = {}
    # Each: a node, which of its results, the sum of the factors of its entries, how many such it stands for.
    todo = [(loss.grad_fn, 0, 1.0, 1.0)]
    left = _FAR
    while todo:
        node, result, weight, alike = todo.pop()
        left -= 1
        if left < 0:
            return math.nan
        kind = _kind(node.name())
        below = [(child, index) for child, index in node.next_functions if child is not None]
        times = _times(node, kind, result, below)
        if times is None:
            size = _size(*below[0]) if kind in _BY_REDUCTION and below else _size(node, result)
            entries[kind] = entries.get(kind, 0.0) + size * alike
            weights[kind] = weights.get(kind, 0.0) + weight * _summed_inside(node, kind, below)
            continue
        if kind in _JOINED:
            alike, below = alike * len(below), below[:: -(-len(below) // _FEW)]
            alike, times = alike / len(below), 1.0 / len(below)
        todo += [(child, index, weight * times, alike) for child, index in below]
    most = max(entries, key=lambda kind: entries[kind])
    return weights[most] if weights[most] > 0 else math.nan


@functools.cache
def _kind(name: str) -> str:
    return name.rstrip("0123456789").removesuffix("Backward")


def _times(node: Any, kind: str, result: int, below: list[tuple[Any, int]]) -> float | None:
    """What the factors of each input sum up to, over those of the result; None where a term begins."""
    if not below:
        return None
    if kind in _SAME or kind in _ADDED or kind in _JOINED or kind == _AVERAGED:
        return 1.0
    if kind == _SUMMED:
        return _size(*below[0]) / _size(node, result)
    if kind in _SCALED and len(below) == 1:
        number = _constant(node)
        return None if not number or kind == "Div" and number < 0 else number if kind == "Mul" else 1 / number
    return None


def _constant(node: Any) -> float:
    """The mean magnitude of what the loss is multiplied with, or divided by; 0 where it is not to be had."""
    for name in ("_saved_other", "_saved_self"):
        raw = getattr(node, name.replace("_saved", "_raw_saved", 1), None)
        if raw is None or getattr(raw, "unpack_hook", None) is not None:
            continue
        try:
            constant = getattr(node, name)
        except RuntimeError:  # changed in place since, or already released
            continue
        if isinstance(constant, Tensor) and is_here(constant) and constant.device.type == "cpu":
            value = constant.detach()  # on a device it would be waited for
            return float((value if value.dtype == torch.bool else value.abs()).double().mean())
    return 0.0


def _summed_inside(node: Any, kind: str, below: list[tuple[Any, int]]) -> float:
    """How many terms a loss function of torch's sums up itself."""
    if kind not in _BY_REDUCTION or getattr(node, "_saved_reduction", 0) != _SUM or not below:
        return 1.0
    child, index = below[0]
    shape = _shape(child, index)
    classes = shape[1 if len(shape) > 1 else 0] if kind.startswith("NllLoss") and shape else 1
    return max(math.prod(shape) / max(classes, 1), 1.0)


def _shape(node: Any, result: int) -> tuple[int, ...]:
    given = getattr(node, "_input_metadata", ())
    return tuple(given[result].shape) if result < len(given) else ()


def _size(node: Any, result: int) -> float:
    return float(max(math.prod(_shape(node, result)), 1))
