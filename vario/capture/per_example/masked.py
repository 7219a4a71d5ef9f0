"""The backward of one example alone, to check what was derived for it; and where it must not be run.

It runs operations of the user's graph once more, without their accumulating anything. That is not to be
seen from outside unless somebody's own code is called by it: hooks, functions written in Python, tensors
that are unpacked by code.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import torch
from torch import Tensor

from vario.capture.per_example.batch_axis import Layout, is_packed

__all__ = ["alone", "unsafe"]


def unsafe(order: list[Any], leaves: Collection[Any]) -> str:
    """Why a backward from the first of ``order`` to these leaves could be seen; "" where it could not."""
    reached = set(leaves)
    for node in reversed(order):
        if any(below in reached for below, _ in node.next_functions):
            reached.add(node)
    for node in reached:
        if type(node).__name__ == "AccumulateGrad":
            if node.variable._backward_hooks:
                return "a parameter has a hook"
        elif isinstance(node, torch.autograd.function.FunctionCtx):
            return f"{type(node).__name__} is written in Python"
        elif is_packed(node):
            return "tensors are saved by hooks"
    return ""


def alone(
    loss: Tensor,
    roots: Mapping[tuple[Any, int], Layout],
    even: list[Any],
    leaves: Mapping[Any, str],
    *,
    example: int,
    examples: int,
) -> dict[str, Tensor]:
    """Squared norm of one example's share of each parameter.

    At the roots all rows but its own are set to zero; terms without examples are its to one part in n.
    """
    numbers: dict[Any, dict[int, Layout]] = {}
    for (node, number), layout in roots.items():
        numbers.setdefault(node, {})[number] = layout
    removers = [node.register_prehook(_only(example, which)).remove for node, which in numbers.items()]
    removers += [node.register_prehook(_part(examples)).remove for node in even]
    try:
        shares = torch.autograd.grad(
            loss, [leaf.variable for leaf in leaves], retain_graph=True, allow_unused=True
        )
    finally:
        for remove in removers:
            remove()
    return {
        name: torch.zeros(()) if share is None else share.detach().float().square().sum()
        for name, share in zip(leaves.values(), shares, strict=True)
    }


def _only(example: int, which: Mapping[int, Layout]) -> Callable[[tuple[Tensor | None, ...]], Any]:
    def mask(gradients: tuple[Tensor | None, ...]) -> tuple[Tensor | None, ...]:
        found = list(gradients)
        for number, layout in which.items():
            gradient = gradients[number]
            if gradient is not None:
                sizes = (layout.outer, -1, layout.inner, *gradient.shape[1:])
                masked = torch.zeros_like(gradient, memory_format=torch.contiguous_format)
                masked.view(sizes)[:, example] = gradient.reshape(sizes)[:, example]
                found[number] = masked
        return tuple(found)

    return mask


def _part(examples: int) -> Callable[[tuple[Tensor | None, ...]], Any]:
    def divide(gradients: tuple[Tensor | None, ...]) -> tuple[Tensor | None, ...]:
        return tuple(None if gradient is None else gradient / examples for gradient in gradients)

    return divide
