r"""Adafactor: Adam's second moment in two vectors per matrix, and no first moment at all.

.. math::
    R \leftarrow \beta_t R + (1 - \beta_t)\,\mathrm{rowmean}(g^2), \quad C \text{ likewise}, \quad
    V = R C / \mathrm{mean}(R), \\
    u = g / \sqrt V, \quad u \leftarrow u / \max(1, \mathrm{rms}(u) / d), \quad
    w \leftarrow w - \max(\epsilon_2, \mathrm{rms}(w))\, \rho_t\, u, \quad
    \beta_t = 1 - t^{-0.8}, \;\; \rho_t = \min(\eta, 1/\sqrt t)

When to use: the optimizer's state does not fit. It holds 0.007 bytes per parameter instead of 8.

When not to: memory is no problem: without momentum it is usually behind AdamW per step.

>>> import torch
>>> w = torch.nn.Parameter(torch.ones(1000, 1000))
>>> optimizer = adafactor([w]); w.grad = torch.ones(1000, 1000); optimizer.step()
>>> sum(t.numel() for t in optimizer.state[w].values())  # Adam: 2,000,001
2001
"""

from __future__ import annotations

from typing import Any

import torch
from torch.optim import Optimizer

__all__ = ["adafactor"]

CARD = {
    "papers": ("P288",),
    "slot": "optimizer",
    "treats": (),
    "example": {},
    "departs": {"empty_parameter": "torch divides by the number of elements"},
    "cost": "0.007 bytes per parameter for large matrices; 1.8 x the time of torch's default AdamW on CPU",
    "checked": "equation (torch.optim.Adafactor, which is faithful and is what this returns)",
    "changed": "nothing. pytorch_optimizer's default is another method: it keeps a momentum (2 bytes per "
    "parameter) "
    "and ignores lr",
    "shown": "state of a 1024 x 1024 weight below 0.3 % of Adam's; a gradient spike of x100 leaves "
    "rms(update) <= d, where it would be above 3 without the clip; a transformer on the copy "
    "task ends at a loss of 1.296, with Adam at 1.298",
}


def adafactor(
    params: Any,
    lr: float = 1e-2,
    *,
    beta2_decay: float = -0.8,
    eps: tuple[float | None, float] = (None, 1e-3),
    d: float = 1.0,
    weight_decay: float = 0.0,
) -> Optimizer:
    """``torch.optim.Adafactor``; ``lr`` is the cap of the relative step rho_t."""
    return torch.optim.Adafactor(
        params, lr=lr, beta2_decay=beta2_decay, eps=eps, d=d, weight_decay=weight_decay
    )
