"""The micro-batches of one step: what went backward, and what the loss functions had given before.

Scripts that accumulate gradients often divide each micro-batch's loss by their number. The value
that people mean and print is the undivided one, so that is what `undivided` gives.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from vario.capture.shards import is_here

__all__ = [
    "Divided",
    "MicroBatch",
    "MicroBatches",
    "constant_divisor",
    "divided_by_number",
    "host_values",
    "loss_value",
    "undivided",
]


@dataclass(slots=True)
class MicroBatch:
    """One call of backward: its value, the constant it was divided by, the loss functions' values."""

    value: Tensor | None
    divisor: float
    given: list[Tensor]
    terms: float = 1.0  # that it adds up (`terms.py`)


@dataclass(slots=True)
class MicroBatches:
    """All calls of backward between two optimizer steps. `closed`: a step has been made of them."""

    members: list[MicroBatch] = field(default_factory=list)
    calls: list[Any] = field(default_factory=list)  # LossCall, where asked for
    clips: list[tuple[Any, Any]] = field(default_factory=list)  # norm before, limit
    activations: dict[str, list[Any]] = field(default_factory=dict)  # of each stream
    double_softmax: bool | None = None
    closed: bool = False

    def let_go(self) -> None:
        """Keep no tensor of the script's alive but the losses themselves."""
        self.calls, self.activations = [], {}


@dataclass(frozen=True, slots=True)
class Divided:
    """By what a step of `into` micro-batches had divided the loss of each."""

    by: int = 1
    into: int = 0  # 0: not known


def loss_value(tensors: Any) -> Tensor | None:
    """The scalar that `backward` is called on (a sum where it is called on several), as it is now."""
    many = [tensors] if isinstance(tensors, Tensor) else list(tensors)
    given = [one for one in many if isinstance(one, Tensor) and is_here(one)]
    scalars = [tensor.detach().clone() for tensor in given if tensor.numel() == 1]
    if not scalars or len(scalars) < len(many):
        return None
    return scalars[0] if len(scalars) == 1 else torch.stack([s.reshape(()).float() for s in scalars]).sum()


def constant_divisor(tensors: Any) -> float:
    """The number that the loss was divided by in the operation that made it, else 1."""
    node = tensors.grad_fn if isinstance(tensors, Tensor) else None
    if node is None:
        return 1.0
    name = node.name()
    constant = (
        getattr(node, "_saved_other", None) if name.startswith(("DivBackward", "MulBackward")) else None
    )
    if not isinstance(constant, Tensor) or constant.dim() or constant.device.type != "cpu":
        return 1.0
    number = float(constant)
    if not number > 0:
        return 1.0
    return number if name.startswith("Div") else 1.0 / number


def divided_by_number(members: list[MicroBatch]) -> bool:
    """Whether every loss was divided by the number of micro-batches, by a constant that can be seen."""
    count = len(members)
    return count > 1 and all(abs(member.divisor - count) < 1e-6 * count for member in members)


def undivided(members: list[MicroBatch], *, usual: int = 1) -> tuple[list[float], Divided]:
    """Value of each micro-batch's loss, as it was before the script divided it by their number.

    `usual` is how many micro-batches a step of this run has had: the last step of an epoch may have
    fewer, and its losses are divided by that number all the same.
    """
    kept = [member for member in members if member.value is not None]
    if not kept:
        return [], Divided()
    tensors = [m.value for m in kept] + ([v for m in kept for v in m.given] if len(kept) > 1 else [])
    numbers = host_values(tensors)
    values, given = numbers[: len(kept)], numbers[len(kept) :]
    number = _divided_by(members, kept, values, given, usual)
    whole = len(kept) == len(members)
    return [value * number for value in values], Divided(number, len(members)) if whole else Divided()


def _divided_by(
    members: list[MicroBatch], kept: list[MicroBatch], values: list[float], given: list[float], usual: int
) -> int:
    count = len(members)
    if 1 < usual and count < usual and all(abs(m.divisor - usual) < 1e-6 * usual for m in kept):
        return usual
    if len(kept) == 1:
        return 1
    if divided_by_number(kept) and len(kept) == count:
        return count
    ratio = sum(values) / sum(given) if given and sum(given) else math.nan
    return count if ratio > 0 and ratio < count**-0.5 else 1  # nearer to 1/n than to 1, in logarithms


def host_values(scalars: list[Any]) -> list[float]:
    """The numbers in one-element tensors, with one transfer for all."""
    if all(scalar.device.type == "cpu" for scalar in scalars):
        return [float(scalar.item()) for scalar in scalars]
    if len({(scalar.dtype, scalar.device, scalar.shape) for scalar in scalars}) == 1:
        return [float(v) for v in torch.stack(scalars).reshape(-1).tolist()]
    return [float(v) for v in torch.stack([s.detach().reshape(()).float() for s in scalars]).tolist()]
