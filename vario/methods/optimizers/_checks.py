"""Refusals and small steps that optimizers share."""

from __future__ import annotations

import torch
from torch import Tensor


def check_lr(name: str, lr: float) -> None:
    if not lr >= 0:
        raise ValueError(f"{name}: invalid learning rate {lr}; it must be 0 or more.")


def check_share(name: str, what: str, *values: float) -> None:
    for value in values:
        if not 0 <= value < 1:
            raise ValueError(f"{name}: {what} holds {value}; it must be at least 0 and below 1.")


def check_gradients(name: str, params: list[Tensor]) -> None:
    """Refuses what would be read wrongly: sparse gradients, and complex ones."""
    for g in (p.grad for p in params if p.grad is not None):
        if g.layout is not torch.strided or g.is_complex():
            kind = "complex" if g.is_complex() else "sparse"
            raise ValueError(
                f"{name}: the gradient of a parameter of shape {tuple(g.shape)} is {kind}, and only dense "
                f"real ones are stepped on. Build an embedding with sparse=False, keep complex weights as "
                f"torch.view_as_real, or give that parameter an optimizer of its own."
            )


def grads_of(params: list[Tensor]) -> list[Tensor]:
    """The gradients of parameters that all have one."""
    return [p.grad for p in params if p.grad is not None]
