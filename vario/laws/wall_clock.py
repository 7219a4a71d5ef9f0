"""Seconds per step from a model's shape, and the loss that a given time will buy.

FLOPs alone explain step time badly: much of a step moves memory. Here time = c0 + c1 copies + c2 flops,
where copies counts the numbers read and written by every operation of a decoder block (with its
backward). Joined with a law of N and D it gives loss against hours for each shape.

When to use: choosing width and depth for a fixed time on one machine, from a dozen timed shapes.
When not to: several nodes; communication is not counted. Time a new machine again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vario.laws._newton import Array

CARD = {
    "papers": ("P242",),
    "inputs": ("width", "depth", "context", "batch", "vocabulary"),
    "output": "seconds per step",
    "checked": "closed form: planted prices of copies come back from noiseless made-up times of 20 shapes, "
    "where FLOPs alone miss by over 2 %; parameters and FLOPs of one shape by hand; result: 20 random shapes "
    "timed on a processor, three draws: R2 .977 to .992 and a median error of 6.4 to 7.1 % on shapes left "
    "out, FLOPs alone 14 to 19 %; the best shape of P242's row at a fixed time was not looked for",
    "changed": "the count of copies is our own: reads and writes of every operation of a block, "
    "forward and twice backward",
}


@dataclass(frozen=True)
class Shape:
    """A decoder: model width, layers, context, sequences per step, vocabulary."""

    width: int
    depth: int
    context: int
    batch: int
    vocabulary: int

    @property
    def parameters(self) -> float:
        return 12.0 * self.depth * self.width**2 + float(self.vocabulary * self.width)

    @property
    def tokens(self) -> float:
        return float(self.batch * self.context)

    @property
    def flops(self) -> float:
        """Of one step, forward and backward: 6 per parameter of a matrix and token, and attention."""
        dense = 12.0 * self.depth * self.width**2 + float(self.vocabulary * self.width)
        return 6.0 * self.tokens * dense + 12.0 * self.depth * self.tokens * self.context * self.width

    @property
    def copies(self) -> float:
        """Numbers read and written by one step: activations of every operation, weights, optimizer state."""
        per_token = self.depth * (34.0 * self.width + 6.0 * self.context) + 4.0 * self.vocabulary
        return 3.0 * self.tokens * per_token + 12.0 * self.parameters


@dataclass(frozen=True)
class StepTime:
    """Seconds per step = constant + copies * per_copy + flops * per_flop (none of them negative)."""

    constant: float
    per_copy: float
    per_flop: float
    error: float  # median relative error of shapes left out one at a time

    def seconds(self, shape: Shape) -> float:
        return self.constant + self.per_copy * shape.copies + self.per_flop * shape.flops


def fit_time(shapes: Sequence[Shape], seconds: Array, *, use_copies: bool = True) -> StepTime:
    """Relative least squares; ``use_copies`` False is the FLOPs-only model that it is compared with."""
    if len(shapes) < 5:
        raise ValueError(f"{len(shapes)} timed shapes; 5 or more are needed")
    seconds = np.asarray(seconds, float)
    table = np.array([[1.0, one.copies if use_copies else 0.0, one.flops] for one in shapes])
    errors = []
    for left_out in range(len(shapes)):
        keep = np.arange(len(shapes)) != left_out
        errors.append(table[left_out] @ _non_negative(table[keep], seconds[keep]) / seconds[left_out] - 1.0)
    constant, per_copy, per_flop = (float(one) for one in _non_negative(table, seconds))
    return StepTime(constant, per_copy, per_flop, float(np.median(np.abs(errors))))


def reached(seconds: float, shape: Shape, time: StepTime) -> dict[str, float]:
    """N and D that ``shape`` reaches in this time, to be handed to a law of N and D."""
    steps = seconds / time.seconds(shape)
    return {"N": shape.parameters, "D": steps * shape.tokens}


def _non_negative(table: Array, seconds: Array) -> Array:
    """Least squares of relative errors with no negative price: the best over all subsets of three columns."""
    rows = table / seconds[:, None]
    scale = rows.max(axis=0) + 1e-300
    best, answer = np.inf, np.zeros(3)
    for chosen in ([0, 1, 2], [0, 1], [0, 2], [1, 2], [0], [1], [2]):
        part = rows[:, chosen] / scale[chosen]
        found = np.linalg.lstsq(part, np.ones(len(rows)), rcond=None)[0]
        total = float(((part @ found - 1.0) ** 2).sum())
        if (found >= 0).all() and total < best:
            best, answer = total, np.zeros(3)
            answer[chosen] = found / scale[chosen]
    return answer
