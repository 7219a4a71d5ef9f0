r"""Learning rate that climbs in a straight line from that of the small batch to that of the large one.

.. math:: \eta_t = \eta \left(\frac1k + \Big(1 - \frac1k\Big) \min(1, t / T_w)\right)

:math:`\eta` is the optimizer's learning rate (already scaled by k, see ``scale_batch``), T_w the updates
of the warm-up: five epochs in the paper.

When to use: after linear scaling; a loss that blows up in the first epochs and trains well at a lower rate.

When not to: the batch and the learning rate did not grow (factor 1 changes nothing).

>>> optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(2))], lr=0.8)
>>> schedule = GradualWarmup(optimizer, factor=8, warmup_steps=4)
>>> rates = []
>>> for _ in range(6):
...     rates.append(round(optimizer.param_groups[0]["lr"], 3)); optimizer.step(); schedule.step()
>>> rates
[0.1, 0.275, 0.45, 0.625, 0.8, 0.8]
"""

from __future__ import annotations

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

__all__ = ["GradualWarmup"]

CARD = {
    "papers": ("P248",),
    "slot": "schedule",
    "treats": ("diverging", "learning-rate-too-high", "batch-too-small"),
    "example": {"factor": 8, "warmup_steps": 4},
    "cost": "none",
    "checked": "closed form at every step",
    "changed": "nothing; another schedule takes over with torch.optim.lr_scheduler.SequentialLR",
    "shown": "MNIST-5k, factor 16, equal epochs: final loss within 10 % of the small batch with linear "
    "scaling and warm-up of five epochs, more than 25 % off without scaling; at a rate of .226 "
    "of the small batch training without warm-up ends above log 10 (2.33), with it below (1.84)",
}


class GradualWarmup(LRScheduler):
    """From lr / factor to lr over ``warmup_steps`` updates; then constant."""

    def __init__(
        self, optimizer: Optimizer, factor: float, *, warmup_steps: int, last_epoch: int = -1
    ) -> None:
        if not factor > 0 or warmup_steps < 1:
            raise ValueError(
                f"GradualWarmup: factor {factor} and warmup_steps {warmup_steps} must be positive; "
                "the paper's warm-up is five epochs: 5 * len(loader)."
            )
        self.factor, self.warmup_steps = factor, warmup_steps
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float | torch.Tensor]:
        share = min(1.0, self.last_epoch / self.warmup_steps)
        scale = 1 / self.factor + (1 - 1 / self.factor) * share
        return [rate * scale for rate in self.base_lrs]
