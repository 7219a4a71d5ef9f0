"""A call of one of torch's loss functions, read by its signature: what it was given, how it reduces."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from vario.capture.graph import bottom_up
from vario.capture.needs import LossCall
from vario.capture.shards import is_here

__all__ = ["apart", "example_mean", "leads_to_inputs", "read_call", "rows"]

LARGEST_OUTPUT = 1 << 23  # entries; of larger outputs evenly spaced rows are kept, so that memory is bounded


def read_call(
    name: str, function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any], value: Tensor
) -> LossCall | None:
    """The call as instruments see it; None where its arguments are not plain tensors."""
    given = _arguments(function, args, kwargs)
    output, target = given.get("input"), given.get("target")
    if (
        not isinstance(output, Tensor)
        or not _plain(output)
        or not _plain(value)
        or not (target is None or _plain(target))
    ):
        return None
    output, target, value = output.detach(), None if target is None else target.detach(), value.detach()
    reduction = str(given.get("reduction", "mean"))
    weight = given.get("pos_weight" if name == "binary_cross_entropy_with_logits" else "weight")
    if output.dim() > 1 and output.numel() > LARGEST_OUTPUT:
        stride = -(-output.numel() // LARGEST_OUTPUT)
        output = output[::stride].clone()
        target = None if target is None else target[::stride].clone()
        value = value[::stride] if value.dim() else value
    return LossCall(
        name,
        output,
        target,
        value,
        reduction,
        weight if _plain(weight) else None,
        given.get("ignore_index", -100),
    )


def example_mean(call: LossCall) -> tuple[Tensor, Tensor | int]:
    """Mean loss of the call over its rows, and how many rows it has, without waiting for the device."""
    count = rows(call)
    if call.reduction == "sum":
        return call.value / count, count
    if call.reduction == "none":
        return call.value.float().mean(), count
    return call.value, count


def rows(call: LossCall) -> Tensor | int:
    """Rows that the loss is a mean over: the targets that are not ignored; else the leading size."""
    target = call.target
    if call.name in ("cross_entropy", "nll_loss") and target is not None and not target.is_floating_point():
        return (target != call.ignore_index).sum()
    return call.output.shape[0] if call.output.dim() else 1


def leads_to_inputs(value: Tensor) -> bool:
    """Whether a loss leads back to a tensor that is no parameter and waits for a gradient: inputs, or what is
    added to them. The walk is as long as the graph.
    """
    for node in bottom_up([value.grad_fn]) if value.grad_fn is not None else []:
        leaf = node.variable if type(node).__name__ == "AccumulateGrad" else None
        if leaf is not None and leaf.dim() > 1 and not isinstance(leaf, nn.Parameter):
            return True
    return False


def apart(calls: Sequence[LossCall]) -> tuple[list[LossCall], list[LossCall]]:
    """The calls that are trained on, and those that an attack was made with: of the same targets, before."""
    trained = [call for call in calls if not call.of_inputs]
    attacks = [call for call in calls if call.of_inputs and any(_same_targets(call, t) for t in trained)]
    return [call for call in calls if all(call is not attack for attack in attacks)], attacks


def _same_targets(one: LossCall, other: LossCall) -> bool:
    if one.target is None or other.target is None or one.output.shape != other.output.shape:
        return False
    return one.target.shape == other.target.shape and bool((one.target == other.target).all())


def _arguments(
    function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> dict[str, Any]:
    given = dict(zip(_parameter_names(function), args, strict=False))
    given.update(kwargs)
    if given.get("size_average") is False:
        given["reduction"] = "sum"
    return given


@functools.cache
def _parameter_names(function: Callable[..., Any]) -> tuple[str, ...]:
    return tuple(inspect.signature(function).parameters)


def _plain(value: Any) -> bool:
    """Whether it has values of its own and all of them: no tensor inside a transform, no shard of one."""
    wrapped = torch._C._functorch.is_functorch_wrapped_tensor
    return isinstance(value, Tensor) and not wrapped(value) and is_here(value)
