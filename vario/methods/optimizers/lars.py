r"""LARS: one learning rate per layer, from the lengths of its weights and of its gradient.

.. math::
    \lambda = \tau \frac{\|w\|}{\|g\| + \beta \|w\|}, \qquad
    v \leftarrow m v + \eta\, \lambda\, (g + \beta w), \qquad w \leftarrow w - v

The learning rate :math:`\eta` sits inside the momentum buffer, as in the paper's algorithm. The usual
implementations put it outside, which is the same while it is constant and another method when it decays.

When to use: large batches, where one rate is too high for some layers and too low for others.

When not to: small batches; with Adam, whose steps are scaled already.

>>> import torch
>>> w = torch.nn.Parameter(torch.ones(2, 2))
>>> optimizer = LARS([w], lr=1.0, trust=0.1, momentum=0.0)
>>> w.grad = torch.full((2, 2), 1e6)  # whatever its length, the step is a tenth of the weights
>>> optimizer.step(); round(w[0, 0].item(), 4)
0.9
"""

from __future__ import annotations

from typing import Any

from vario.methods.optimizers._trust_ratio import TrustRatioOptimizer

__all__ = ["LARS"]

CARD = {
    "papers": ("P214",),
    "slot": "optimizer",
    "rate_of": ("sgd",),
    "treats": ("batch-too-large", "exploding-gradients", "vanishing-gradients"),
    "example": {"trust": 0.5},
    "cost": "4 bytes per parameter; 0.85 x the time of torch's default AdamW on 19 M parameters, 0.95 x on a "
    "transformer of 1 M (processor time, busy CPU)",
    "checked": "equation; trajectory of pytorch_optimizer.LARS 4.1 (with lr_inside=False, and at constant "
    "lr with "
    "either)",
    "changed": "parameters of one dimension (biases, gains) take plain momentum steps without decay, as in "
    "common practice; exclude_vectors=False adapts them too",
    "shown": "a gradient times 1,000 leaves the step unchanged to 1e-5; a layer written as 30 W leaves the "
    "course "
    "of the function unchanged to 1e-4, where that of SGD changes by more than 0.1. A gain in accuracy: not "
    "shown here (MNIST-5k, batch 1,024: .930 against .924 for SGD)",
}


class LARS(TrustRatioOptimizer):
    """As ``torch.optim.SGD``; ``trust`` is the paper's eta."""

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        *,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        trust: float = 1e-3,
        lr_inside: bool = True,
        exclude_vectors: bool = True,
    ) -> None:
        defaults = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "trust": trust}
        super().__init__(params, {**defaults, "lr_inside": lr_inside, "exclude_vectors": exclude_vectors})
