r"""perpGrad: only the part of each gradient that turns its weights, not the part that scales them.

.. math:: g_\perp = g - \frac{w \cdot g}{w \cdot w}\, w, \qquad g \leftarrow g_\perp \, \|g\| / \|g_\perp\|

w and g are one parameter tensor and its gradient. Once a network separates its training set, the
cheapest way to lower the cross entropy is to multiply all weights; logits grow until the softmax rounds
to exactly one and learning stops. perpGrad takes that direction away.

When to use: training accuracy is 1, weights and logits keep growing, validation does not follow
(softmax collapse, delayed generalization).

When not to: the scale of the weights must be learned (regression heads, no normalization), or weight
decay already holds the norm.

>>> w = torch.nn.Parameter(torch.tensor([3.0, 4.0]))
>>> optimizer = PerpGrad(torch.optim.SGD([w], lr=1.0))
>>> w.grad = torch.tensor([6.0, 8.0])  # along w: would only scale it
>>> optimizer.step(); w.tolist()
[3.0, 4.0]
>>> w.grad = torch.tensor([4.0, -3.0])  # across w: kept
>>> optimizer.step(); w.tolist()
[-1.0, 7.0]
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from vario.methods.optimizers._around import AroundOptimizer

__all__ = ["PerpGrad"]

CARD = {
    "papers": ("P064",),
    "slot": "optimizer-around",
    "treats": ("softmax-collapse", "delayed-generalization"),
    "example": {},
    "cost": "no state; five passes over weights and gradients: with fused AdamW 0.95 x torch's default AdamW "
    "on 19 M parameters, 1.1 x on a transformer of 1 M (processor time, busy CPU)",
    "checked": "equation; authors' code LucasPrietoAl/grokking-at-the-edge-of-numerical-stability 0cc9e8d "
    "(MIT), read; trajectory of pytorch_optimizer.OrthoGrad 4.1",
    "changed": "rescaling to the length of the gradient follows the authors' code; rescale=False is the "
    "paper's equation. Parameters of one element are left alone, and a gradient along its weights up to "
    "rounding gives zero: the authors' code blows the rounding error up to full length.",
    "shown": "addition mod 31, 60 % train, two hidden layers of 160, Adam lr 1e-2 with the authors' eps of "
    "1e-25 and betas (.9, .99), three seeds: at step 3,000 test accuracy is at most .003 and the softmax "
    "sums of .33, .49 and .31 of the examples round to one in float32, none in float64; with perpGrad it is "
    ".99 or more by step 1,000. With torch's eps and betas it is .97 or more against .00, but no more than "
    ".002 of the sums round to one: eps stops the logits first. Not shown here: perpGrad with one hidden "
    "layer of 200, .16 to .20 by step 1,000",
}


class PerpGrad(AroundOptimizer):
    """``base`` steps on gradients made perpendicular to their weights, tensor by tensor.

    ``rescale`` gives each one back the length of the gradient it came from.
    """

    def __init__(self, base: Optimizer, *, rescale: bool = True) -> None:
        super().__init__(base, {"rescale": rescale})

    def _change(self, group: dict[str, Any], params: list[Tensor], grads: list[Tensor]) -> list[Tensor]:
        changed = list(grads)
        alike: dict[tuple[torch.device, torch.dtype], list[int]] = {}
        for k, p in enumerate(params):
            if p.numel() > 1:
                alike.setdefault((p.device, p.dtype), []).append(k)
        for (device, _), places in alike.items():
            across_of = _one_by_one if device.type == "cpu" else _across
            turned = across_of([params[k] for k in places], [grads[k] for k in places], group["rescale"])
            for k, across in zip(places, turned, strict=True):
                changed[k] = across.view(grads[k].shape).to(grads[k].dtype)
        return changed


def _one_by_one(params: list[Tensor], grads: list[Tensor], rescale: bool) -> list[Tensor]:
    """What ``_across`` does, with plain numbers, while a tensor still lies in the cache."""
    changed = []
    for p, grad in zip(params, grads, strict=True):
        w, g = _flat(p), _flat(grad)
        share = torch.dot(w, g).item() / (torch.dot(w, w).item() + 1e-30)
        across = torch.sub(g, w, alpha=share)
        length, left = (torch.linalg.vector_norm(t).item() for t in (g, across))
        seen = left > 8 * torch.finfo(w.dtype).eps * length
        changed.append(across.mul_((length / left if rescale else 1.0) if seen else 0.0))
    return changed


def _across(params: list[Tensor], grads: list[Tensor], rescale: bool) -> list[Tensor]:
    """Flat parts of the gradients across their weights; what is known of each tensor stands in one vector."""
    ws, gs = ([_flat(t) for t in tensors] for tensors in (params, grads))
    along = torch.stack([torch.dot(w, g) for w, g in zip(ws, gs, strict=True)])
    shares = along / (torch.stack([torch.dot(w, w) for w in ws]) + 1e-30)
    across = list(torch._foreach_mul(ws, list((-shares).unbind())))  # times faster than one addcmul each
    torch._foreach_add_(across, gs)
    length, left = torch.stack(torch._foreach_norm(gs)), torch.stack(torch._foreach_norm(across))
    seen = left > 8 * torch.finfo(ws[0].dtype).eps * length
    factors = torch.where(seen, length / (left + 1e-30) if rescale else torch.ones_like(left), 0.0)
    torch._foreach_mul_(across, list(factors.unbind()))
    return across


def _flat(t: Tensor) -> Tensor:
    """In one row, and in at least float32: sums in bfloat16 lose small terms."""
    return t.detach().reshape(-1).to(torch.promote_types(t.dtype, torch.float32))
