r"""Adam without epsilon: the arctangent of the two moments instead of their quotient.

.. math:: w \leftarrow w - \eta\, a\, \mathrm{atan2}\!\left(\hat m,\; b \sqrt{\hat v}\right)

The update does not depend on the scale of the gradient at all, at 1e-20 as at 1e20, and stays within
:math:`\pm a \pi / 2`.

When to use: gradients that are small against epsilon (large widths, float16, muP), where Adam's steps shrink.

When not to: epsilon was tuned on purpose as a damping (large epsilon makes Adam more like SGD).

>>> w = torch.nn.Parameter(torch.tensor([1.0]))
>>> optimizer = AdamAtan2([w], lr=0.1)
>>> w.grad = torch.tensor([1e-20])
>>> optimizer.step(); round(w.item(), 4)  # lr * atan2(1, 1) = 0.1 * pi / 4
0.9215
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.optim import Optimizer

from vario.methods.optimizers._checks import check_lr, check_share, grads_of

__all__ = ["AdamAtan2"]

CARD = {
    "papers": ("P355",),
    "slot": "optimizer",
    "treats": ("adam-epsilon-dominates", "low-precision-underflow"),
    "example": {},
    "cost": "8 bytes per parameter, as Adam; 1.8 x the time of torch's default AdamW on 19 M parameters, "
    "CPU, busy machine",
    "checked": "equation; trajectory of adam-atan2-pytorch 0.4.1 with a = b = 1 (read: b42d7cb, MIT)",
    "changed": "a = b = 1 as in the paper (adam-atan2-pytorch multiplies every step by a = 1.27). The second "
    "moment is kept over the square of the largest gradient so far: the square of 1e-20 or 1e20 does not "
    "exist "
    "in float32, where the usual code is 0.02 % off or stands still. Weight decay is decoupled",
    "shown": "steps equal to 1e-6 for gradients from 1e-20 to 1e20, where Adam's shrink by more than half "
    "at 1e-9",
}


class AdamAtan2(Optimizer):
    """As ``torch.optim.AdamW``, without ``eps``; with a = 1 a first step is lr * pi / 4, not lr."""

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        weight_decay: float = 0.0,
        a: float = 1.0,
        b: float = 1.0,
    ) -> None:
        check_lr("AdamAtan2", lr)
        check_share("AdamAtan2", "betas", *betas)
        defaults = {"lr": lr, "betas": betas, "weight_decay": weight_decay, "a": a, "b": b}
        super().__init__(params, {**defaults, "decoupled_weight_decay": True})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            if params:
                self._move(group, params)
        return loss

    def _move(self, group: dict[str, Any], params: list[torch.Tensor]) -> None:
        beta1, beta2 = group["betas"]
        states = [self.state[p] for p in params]
        for p, state in zip(params, states, strict=True):
            if not state:
                state["step"] = 0
                state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(p), torch.zeros_like(p)
                state["scale"] = p.new_tensor(torch.finfo(p.dtype).tiny)
            state["step"] += 1
        grads = grads_of(params)
        first, second = [s["exp_avg"] for s in states], [s["exp_avg_sq"] for s in states]
        torch._foreach_lerp_(first, grads, 1 - beta1)
        # squares of gradients over the largest one so far: 1e-20 and 1e20 have no square in float32
        parts = []
        for g, v, state in zip(grads, second, states, strict=True):
            if not g.numel():
                parts.append(torch.zeros_like(g))
                continue
            low, high = torch.aminmax(g)
            scale = torch.maximum(state["scale"], torch.maximum(high, -low))
            part = g / scale
            v.mul_((state["scale"] / scale).square_().mul_(beta2)).addcmul_(part, part, value=1 - beta2)
            state["scale"] = scale
            # atan2 knows no common factor, so both bias corrections go into its second argument
            count = state["step"]
            correction = group["b"] * (1 - beta1**count) / (1 - beta2**count) ** 0.5
            parts.append(torch.sqrt(v, out=part).mul_(scale * correction))
        for numerator, part in zip(first, parts, strict=True):
            torch.atan2(numerator, part, out=part)
        if group["weight_decay"]:
            torch._foreach_mul_(params, 1 - group["lr"] * group["weight_decay"])
        torch._foreach_add_(params, parts, alpha=-group["lr"] * group["a"])
