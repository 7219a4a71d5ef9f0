r"""StableMax cross entropy: a softmax that grows linearly, so that its loss never rounds to zero.

.. math::
    L = -\log \frac{s(z_y)}{\sum_j s(z_j)}, \qquad
    s(z) = \begin{cases} z + 1 & z \ge 0 \\ 1 / (1 - z) & z < 0 \end{cases}

exp makes the other classes vanish beside the right one: at a gap of 18 (float32) their sum rounds away, the
loss and the gradient of the right class are exactly zero, and learning stops though the network could still
generalize.

When to use: softmax collapse: training accuracy is 1, logits grow, losses of many examples are exactly zero.

When not to: probabilities are read from the model (calibration, distillation, sampling): argmax stays, the
probabilities are those of s, not of softmax.

>>> logits = torch.tensor([[200.0, 0.0, 0.0]], requires_grad=True)
>>> torch.nn.functional.cross_entropy(logits, torch.tensor([0])).item()
0.0
>>> loss = StableMaxLoss()(logits, torch.tensor([0])); round(loss.item(), 6)  # log(1 + 2 / 201)
0.009901
>>> bool((torch.autograd.grad(loss, logits)[0] != 0).all())
True
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vario.methods.losses._cross_entropy import as_torch, at_label, check, reduce, rows, settings_of

__all__ = ["StableMaxLoss"]

CARD = {
    "papers": ("P064",),
    "slot": "loss",
    "treats": ("softmax-collapse",),
    "example": {},
    "cost": "as cross entropy, one division per class more",
    "checked": "equation; authors' code LucasPrietoAl/grokking-at-the-edge-of-numerical-stability 0cc9e8d "
    "(MIT), read: equal in float64",
    "changed": "computed as log(1 + sum of the others / own), which cannot round to zero, so float32 is "
    "enough; the authors go to float64 and divide",
    "shown": "logits where the float32 gradient of cross entropy is exactly zero keep a gradient. That "
    "StableMax alone makes a network grok: not shown here (addition mod 31, 60 % train, Adam lr 1e-2, 3,000 "
    "steps)",
}


class StableMaxLoss(nn.Module):
    """In place of ``nn.CrossEntropyLoss``: ``forward(scores (n, C, ...), classes (n, ...))``."""

    def __init__(self, *, ignore_index: int = -100, reduction: str = "mean") -> None:
        super().__init__()
        check("StableMaxLoss", reduction)
        self.ignore_index, self.reduction = ignore_index, reduction

    @classmethod
    def from_existing(cls, loss: nn.CrossEntropyLoss) -> StableMaxLoss:
        """With its reduction and ignored class; refuses class weights and label smoothing."""
        ignore_index, reduction = settings_of("StableMaxLoss", loss)
        return cls(ignore_index=ignore_index, reduction=reduction)

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        scores, labels, counts = rows("StableMaxLoss", output, target, self.ignore_index)
        s = _grow(scores)  # (..., C)
        own = at_label("StableMaxLoss", s, labels)
        others = s.scatter(-1, labels[..., None], 0.0).sum(-1)
        losses = torch.log1p(others / own[..., 0])
        return as_torch(reduce(losses, counts, self.reduction), output)

    def extra_repr(self) -> str:
        return f"reduction={self.reduction}"


def _grow(z: Tensor) -> Tensor:
    # clamped, so that the branch that is not taken has no pole and no gradient of its own
    return torch.where(z < 0, 1 / (1 - z.clamp(max=0)), 1 + z.clamp(min=0))
