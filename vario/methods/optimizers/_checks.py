"""Refusals and small steps that optimizers share."""

from __future__ import annotations

from torch import Tensor


def check_lr(name: str, lr: float) -> None:
    if not lr >= 0:
        raise ValueError(f"{name}: invalid learning rate {lr}; it must be 0 or more.")


def check_share(name: str, what: str, *values: float) -> None:
    for value in values:
        if not 0 <= value < 1:
            raise ValueError(f"{name}: {what} holds {value}; it must be at least 0 and below 1.")


def grads_of(params: list[Tensor]) -> list[Tensor]:
    """The gradients of parameters that all have one."""
    return [p.grad for p in params if p.grad is not None]
