r"""Accumulated gradients that equal those of the one large batch, with loss scaling where it is needed.

.. math:: g = \frac{\sum_k \nabla \sum_{i \in k} \ell_i}{\sum_k n_k}

over micro-batches k with n_k examples or tokens. The mean of the micro-batches' means is a different
gradient as soon as their sizes differ: short sequences count too much.

When to use: the batch must grow but memory does not allow it; sequences of unequal length; float16.

When not to: the whole batch fits. BatchNorm still sees micro-batches.

>>> w = torch.nn.Parameter(torch.zeros(1))
>>> accumulation = Accumulation(torch.optim.SGD([w], lr=1.0))
>>> for micro in (torch.tensor([1.0, 1.0, 1.0]), torch.tensor([5.0])):
...     accumulation.backward((w * micro).sum(), len(micro))  # the SUM of the losses, and how many
>>> accumulation.step(); w.item()  # -(1 + 1 + 1 + 5) / 4, where the mean of means would be -3
True
-2.0
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.optim import Optimizer

__all__ = ["Accumulation"]

CARD = {
    "papers": ("P211",),
    "slot": "training-step",
    "treats": ("batch-too-small", "low-precision-underflow"),
    "example": {},
    "cost": "one pass over the gradients per update",
    "checked": "equation: equals the one large batch; the scale follows torch.amp.GradScaler, which does it",
    "changed": "nothing; the learning rate of the larger batch is scale_batch's",
    "shown": "unequal lengths: equal to the large batch to 1e-6, the mean of means differs by more than "
    "1e-3; "
    "emulated float16 gradients: underflow from more than 20 % to less than 1 %",
}


class Accumulation:
    """``backward(loss_sum, count)`` for each micro-batch, then ``step()``.

    ``scaler`` is a ``torch.amp.GradScaler``; ``max_norm`` clips the finished gradient.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        *,
        scaler: torch.amp.GradScaler | None = None,
        max_norm: float | None = None,
    ) -> None:
        self.optimizer, self.scaler, self.max_norm = optimizer, scaler, max_norm
        self.count = 0.0

    def backward(self, loss_sum: Tensor, count: float) -> None:
        """Gradients of a micro-batch: the sum of its losses, and how many there were (tokens, examples)."""
        if not count >= 0:
            raise ValueError(
                f"Accumulation.backward: count is {count}; it is the number of losses in the sum."
            )
        self.count += float(count)
        torch.autograd.backward(self.scaler.scale(loss_sum) if self.scaler else loss_sum)

    def step(self, count: float | None = None) -> bool:
        """Divide by the count, step, clear; False where the scaler skipped a non-finite gradient.

        Across ranks that each hold an averaged gradient, give the count as the mean over the ranks.
        """
        total = self.count if count is None else float(count)
        if total <= 0:
            raise ValueError("Accumulation.step: nothing was accumulated since the last step.")
        params = [p for group in self.optimizer.param_groups for p in group["params"] if p.grad is not None]
        if self.scaler:
            self.scaler.unscale_(self.optimizer)
        torch._foreach_div_([p.grad for p in params], total)
        if self.max_norm is not None:
            torch.nn.utils.clip_grad_norm_(params, self.max_norm)
        done = True
        if self.scaler:
            before = self.scaler.get_scale()
            self.scaler.step(self.optimizer)
            self.scaler.update()
            done = self.scaler.get_scale() >= before
        else:
            self.optimizer.step()
        self.optimizer.zero_grad()
        self.count = 0.0
        return done
