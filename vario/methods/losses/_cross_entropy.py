"""What losses in place of ``nn.CrossEntropyLoss`` share: its arguments, shapes, reduction and refusals."""

from __future__ import annotations

import torch
from torch import Tensor, nn

REDUCTIONS = ("none", "mean", "sum")


def check(name: str, reduction: str) -> None:
    if reduction not in REDUCTIONS:
        raise ValueError(f"{name}: reduction {reduction!r} must be one of {', '.join(REDUCTIONS)}.")


def settings_of(name: str, existing: nn.CrossEntropyLoss) -> tuple[int, str]:
    """``ignore_index`` and ``reduction`` of an existing loss; class weights and smoothing have no twin."""
    if not isinstance(existing, nn.CrossEntropyLoss):
        raise ValueError(f"{name} takes the place of nn.CrossEntropyLoss, not of {existing!r}.")
    if existing.weight is not None or existing.label_smoothing:
        raise ValueError(
            f"{name} has neither class weights nor label smoothing, and the existing loss uses "
            f"{'class weights' if existing.weight is not None else 'label smoothing'}: leave that out first."
        )
    return existing.ignore_index, existing.reduction


def rows(name: str, output: Tensor, target: Tensor, ignore_index: int) -> tuple[Tensor, Tensor, Tensor]:
    """Classes last (..., C), labels that are safe to gather by (...), and which of them count."""
    if output.ndim < 1 or target.is_floating_point():
        raise ValueError(
            f"{name} wants scores (n, classes, ...) and integer classes (n, ...); the target has dtype "
            f"{target.dtype}. Probabilities as targets are not supported."
        )
    scores = output if output.ndim == 1 else output.movedim(1, -1)  # (n, ..., C)
    if scores.shape[:-1] != target.shape:
        raise ValueError(
            f"{name}: scores {tuple(output.shape)} need classes of shape {tuple(scores.shape[:-1])}; got "
            f"{tuple(target.shape)}."
        )
    counts = target != ignore_index
    wide = scores.to(torch.promote_types(scores.dtype, torch.float32))
    return wide, torch.where(counts, target, torch.zeros_like(target)), counts


def at_label(name: str, values: Tensor, labels: Tensor) -> Tensor:
    """The value of each row (..., C) at its label, (..., 1).

    Labels are looked at where torch refuses them: before, it would be a wait for the GPU in every step, and
    no way through torch.func and torch.compile.
    """
    try:
        return values.gather(-1, labels[..., None])
    except RuntimeError:
        classes = values.shape[-1]
        wrong = labels[(labels < 0) | (labels >= classes)]
        if not len(wrong):
            raise
        raise ValueError(
            f"{name}: class {int(wrong[0])} is outside 0..{classes - 1} and is not ignore_index."
        ) from None


def as_torch(loss: Tensor, output: Tensor) -> Tensor:
    """In the dtype of the scores; under autocast in that of the computation, float32, as torch has it."""
    return loss if torch.is_autocast_enabled(output.device.type) else loss.to(output.dtype)


def reduce(losses: Tensor, counts: Tensor, reduction: str) -> Tensor:
    """Mean over what counts, as torch does it: not a number where nothing counts."""
    losses = torch.where(counts, losses, torch.zeros_like(losses))
    if reduction == "none":
        return losses
    return losses.sum() if reduction == "sum" else losses.sum() / counts.sum()
