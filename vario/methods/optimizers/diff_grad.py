r"""diffGrad: Adam with a brake where the gradient hardly changes.

.. math:: \xi_t = \mathrm{sigmoid}(|g_{t-1} - g_t|) \in [0.5, 1], \qquad
    w \leftarrow w - \eta\, \xi_t\, \frac{\hat m}{\sqrt{\hat v} + \epsilon}

When to use: the loss oscillates around a minimum that it overshoots.

When not to: gradients far below 1: the brake is then always 0.5, and this is Adam at half the rate.

>>> import torch
>>> w = torch.nn.Parameter(torch.zeros(1))
>>> optimizer = diff_grad([w], lr=0.1)
>>> for _ in range(2):
...     before = w.item(); w.grad = torch.ones(1); optimizer.step()
>>> round(w.item() - before, 4)  # an unchanged gradient: half of Adam's step
-0.05
"""

from __future__ import annotations

from typing import Any

from torch.optim import Optimizer

from vario.methods.optimizers._package import pytorch_optimizer

__all__ = ["diff_grad"]

CARD = {
    "papers": ("P007",),
    "slot": "optimizer",
    "rate_of": ("adam", "rms", "lamb"),
    "treats": ("oscillating-loss",),
    "example": {},
    "needs": "pytorch_optimizer",
    "departs": {
        "copy": "pytorch_optimizer keeps settings outside what torch copies; use state_dict",
    },
    "cost": "12 bytes per parameter; 1.03 x the time of torch's default AdamW on CPU",
    "checked": "equation (pytorch_optimizer.DiffGrad 4.1, wrapped)",
    "changed": "weight decay is added to the gradient, as in the paper; the package's default decouples it. "
    "The package adds 1e-15 under the root and eps before the bias correction: a constant gradient of 1e-7 "
    "moves 0.13 times as far in the third step as the equation has it, one of 1e-4 as far",
    "shown": "a constant gradient moves exactly half as far as Adam. Two of the paper's three functions end "
    "in the lowest valley (0 and .0001), where Adam stays in a higher one (.05 and .85). On the third, and "
    "on Rosenbrock's and Beale's, where both come to one minimum, it is behind Adam at each of four rates "
    "from .01 to .3 after 100, 300 and 1,000 steps, 36 of 36: where the gradient hardly changes the steps "
    "are half of Adam's. No such line can hold for every function: scaled down, the equation is Adam at "
    "half the rate (tested). Better accuracy: not shown here",
}


def diff_grad(
    params: Any,
    lr: float = 1e-3,
    *,
    betas: tuple[float, float] = (0.9, 0.999),
    weight_decay: float = 0.0,
    eps: float = 1e-8,
) -> Optimizer:
    """``pytorch_optimizer.DiffGrad`` with the paper's settings."""
    made: Optimizer = pytorch_optimizer("DiffGrad").DiffGrad(
        params, lr=lr, betas=betas, weight_decay=weight_decay, weight_decouple=False, eps=eps
    )
    return made
