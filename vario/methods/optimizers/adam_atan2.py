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
from torch import Tensor
from torch.optim import Optimizer

from vario.methods.optimizers._checks import check_lr, check_share, grads_of

__all__ = ["AdamAtan2"]

CHUNK = 2**15  # entries that stay in the cache between the operations of a step
SAFE = (1e-6, 1e12)  # largest gradients of a tensor whose squares are kept as they are

CARD = {
    "papers": ("P355",),
    "slot": "optimizer",
    "treats": ("adam-epsilon-dominates", "low-precision-underflow"),
    "example": {},
    "cost": "8 bytes per parameter, as Adam; 0.8 to 1.0 x the time of torch's default AdamW on 19 M "
    "parameters, 2.0 to 2.4 x on a transformer of 1 M. There all stays in the cache, and torch's "
    "arctangent alone (99 us per 32,768 entries) takes longer than all of AdamW's arithmetic (80 us) "
    "(processor time, busy CPU)",
    "checked": "equation; trajectory of adam-atan2-pytorch 0.4.1 with a = b = 1 (read: b42d7cb, MIT)",
    "changed": "a = b = 1 as in the paper (adam-atan2-pytorch multiplies every step by a = 1.27). The second "
    "moment is kept over the square of the largest gradient so far: the square of 1e-20 or 1e20 does not "
    "exist in float32, where the usual code is 0.02 % off or stands still. While a tensor's largest gradient "
    "lies between 1e-6 and 1e12 its squares are kept as they are. Weight decay is decoupled",
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
        for p, g, state in zip(params, grads_of(params), states, strict=True):
            if p.numel():
                self._move_one(group, p, g, state)

    def _move_one(self, group: dict[str, Any], p: Tensor, g: Tensor, state: dict[str, Any]) -> None:
        beta1, beta2 = group["betas"]
        m, v, count = state["exp_avg"], state["exp_avg_sq"], state["step"]
        # atan2 knows no common factor, so both bias corrections go into its second argument
        correction: Any = group["b"] * (1 - beta1**count) / (1 - beta2**count) ** 0.5
        decay: Any = beta2
        low, high = torch.aminmax(g)
        usual = p.device.type == "cpu" and _is_usual(low.item(), high.item(), state["scale"].item())
        scale = state["scale"]
        if not usual:  # on other devices always: asking would wait
            scale = _scale_of(torch.maximum(high, -low), state["scale"])
            decay = (state["scale"] / scale).square_().mul_(beta2)
            correction = scale * correction
            state["scale"] = scale
        flat = p.device.type == "cpu" and all(t.is_contiguous() for t in (p, g, m, v))
        whole = [t.detach().view(-1) if flat else t.detach() for t in (p, g, m, v)]
        parts = zip(*(t.split(CHUNK) for t in whole), strict=True) if flat else [tuple(whole)]
        work = torch.empty_like(g.view(-1)[:CHUNK] if flat else g)
        for p_, g_, m_, v_ in parts:
            part = work[: len(p_)] if flat else work
            m_.lerp_(g_, 1 - beta1)
            square = g_ if usual else torch.div(g_, scale, out=part)
            v_.mul_(decay).addcmul_(square, square, value=1 - beta2)
            torch.sqrt(v_, out=part).mul_(correction)
            torch.atan2(m_, part, out=part)
            if group["weight_decay"]:
                p_.mul_(1 - group["lr"] * group["weight_decay"])
            p_.add_(part, alpha=-group["lr"] * group["a"])


def _is_usual(low: float, high: float, scale: float) -> bool:
    """The squares of these gradients can be added up as they are."""
    return scale == 1 and max(high, -low) < SAFE[1]


def _scale_of(top: Tensor, before: Tensor) -> Tensor:
    """What gradients are divided by before they are squared: 1, or their largest so far if it is extreme."""
    return torch.maximum(before, torch.where((top > SAFE[0]) & (top < SAFE[1]), torch.ones_like(top), top))
