r"""Learning rate that falls to zero in a straight line, or by the gradient norms of an earlier run.

.. math:: \eta_t \propto w_t \sum_{p > t} w_p, \qquad w_t = \|g_t\|_2^{-2} \text{ (SGD)}, \;
    \|g_t\|_1^{-1} \text{ (Adam)}

scaled so that the largest is 1; the norms are first smoothed by a median over a tenth of the run. Equal
norms give linear decay, the worst-case optimal schedule for the last iterate. Norms that fall at the end
give a warm-up and a faster final decay.

When to use: the length of the run is known and the schedule is constant, or the loss still falls when the
rate does; refine when a run of the same kind has been recorded.

When not to: training without a fixed end. Refinement is to be tried, not assumed: with four examples per
batch it lost to linear decay on logistic regression here.

>>> optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(2))], lr=1.0)
>>> schedule = RefinedDecay(optimizer, 5)
>>> rates = []
>>> for _ in range(5):
...     rates.append(optimizer.param_groups[0]["lr"]); optimizer.step(); schedule.step()
>>> rates
[1.0, 0.75, 0.5, 0.25, 0.0]
>>> refined_factors([8.0, 4.0, 2.0, 2.0, 2.0], 5, smooth=0.0).tolist()
[0.1015625, 0.375, 1.0, 0.5, 0.0]
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

__all__ = ["RefinedDecay", "refined_factors"]

CARD = {
    "papers": ("P029",),
    "slot": "schedule",
    "treats": ("loss-plateau", "oscillating-loss", "learning-rate-decayed-too-early"),
    "example": {"total_steps": 20},
    "cost": "none",
    "checked": "equation; authors' code facebookresearch/adaptive_scheduling 37a8a9b, read (MIT)",
    "changed": "norms recorded at fewer steps than the run has are interpolated in a straight line; norms of "
    "zero are raised to the smallest positive one",
    "shown": "breast cancer, logistic regression, SGD batch 4, 8 seeds: linear decay <= cosine < constant, "
    "at "
    "least 4 % below constant. Refinement: not shown here, it was worse than linear.",
}


class RefinedDecay(LRScheduler):
    """Linear decay over ``total_steps``; with ``gradient_norms`` of an earlier run, its refinement.

    ``power`` is 2 for l2 norms (SGD) and 1 for l1 norms (Adam). The last of the steps has rate 0.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        total_steps: int,
        *,
        gradient_norms: Sequence[float] | Tensor | None = None,
        power: float = 2.0,
        smooth: float = 0.1,
        last_epoch: int = -1,
    ) -> None:
        norms = [1.0] * total_steps if gradient_norms is None else gradient_norms
        self.factors: list[float] = refined_factors(norms, total_steps, power=power, smooth=smooth).tolist()
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float | Tensor]:
        factor = self.factors[min(self.last_epoch, len(self.factors) - 1)]
        return [rate * factor for rate in self.base_lrs]


def refined_factors(
    gradient_norms: Sequence[float] | Tensor, total_steps: int, *, power: float = 2.0, smooth: float = 0.1
) -> Tensor:
    """Multipliers of the learning rate, float64 (total_steps,), the largest of them 1."""
    norms = torch.as_tensor(gradient_norms, dtype=torch.float64)
    if norms.ndim != 1 or len(norms) < 2 or total_steps < 2:
        raise ValueError(
            f"RefinedDecay wants one norm per recorded step and at least two steps; got norms of "
            f"shape {tuple(norms.shape)} and total_steps {total_steps}."
        )
    if not bool(norms.isfinite().all()) or not bool((norms > 0).any()):
        raise ValueError(
            "RefinedDecay: gradient norms must be finite and not all zero; drop the broken steps."
        )
    norms = _median(norms.clamp(min=norms[norms > 0].min().item()), smooth)
    if len(norms) != total_steps:
        norms = torch.nn.functional.interpolate(
            norms[None, None], size=total_steps, mode="linear", align_corners=True
        )[0, 0]
    weights = norms**-power
    after = weights.flip(0).cumsum(0).flip(0) - weights  # sum over the later steps
    after[-1] = 0.0
    factors = weights * after
    return factors / factors.max()


def _median(values: Tensor, share: float) -> Tensor:
    """Running median over ``share`` of the run, the ends repeated."""
    half = int(share * len(values)) // 2
    if half == 0:
        return values
    padded = torch.cat([values[:1].expand(half), values, values[-1:].expand(half)])
    return padded.unfold(0, 2 * half + 1, 1).median(dim=1).values
