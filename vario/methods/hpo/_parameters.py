"""Lists of tensors as one vector, and gradients in which what does not matter counts as zero."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor


def leaves(name: str, tensors: Iterable[Tensor]) -> list[Tensor]:
    """The tensors as a list; each must want gradients."""
    held = [tensors] if isinstance(tensors, Tensor) else list(tensors)
    if not held or any(not t.requires_grad for t in held):
        raise ValueError(f"{name}: {len(held)} tensors were given; each must exist and require gradients.")
    return held


def gradients(
    value: Tensor, of: Sequence[Tensor], *, create_graph: bool = False, retain_graph: bool | None = None
) -> list[Tensor]:
    """Of ``value``, d value / d each tensor; zero where it does not enter."""
    if not value.requires_grad:
        return [torch.zeros_like(t) for t in of]
    found = torch.autograd.grad(
        value, of, create_graph=create_graph, retain_graph=retain_graph, allow_unused=True
    )
    return [torch.zeros_like(t) if g is None else g for g, t in zip(found, of, strict=True)]


def dot(left: Sequence[Tensor], right: Sequence[Tensor]) -> Tensor:
    """The inner product of two lists of tensors."""
    return torch.stack([(a * b).sum() for a, b in zip(left, right, strict=True)]).sum()
