"""The trust ratio of LARS and the momentum step around it; a multiplier may change with time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from vario.methods.optimizers._checks import check_gradients, check_lr, check_share, grads_of


class TrustRatioOptimizer(Optimizer):
    """SGD with momentum whose rate is set per parameter tensor by |w| / (|g| + decay |w|)."""

    def __init__(self, params: Any, defaults: dict[str, Any]) -> None:
        name = type(self).__name__
        check_lr(name, defaults["lr"])
        check_share(name, "momentum", defaults["momentum"])
        if not defaults["weight_decay"] >= 0 or not defaults["trust"] > 0:
            raise ValueError(
                f"{name}: weight_decay {defaults['weight_decay']} must be 0 or more and trust "
                f"{defaults['trust']} above 0."
            )
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            check_gradients(type(self).__name__, params)
            multiplier = self._multiplier(group)  # of a step without gradients too: time goes on
            if params:
                self._move(group, params, multiplier)
        return loss

    def _multiplier(self, group: dict[str, Any]) -> float:
        """What the trust ratio is multiplied by at this step."""
        return 1.0

    def _move(self, group: dict[str, Any], params: list[Tensor], multiplier: float) -> None:
        ratios = _ratios(group, params, multiplier)
        scaled = [g * ratio for g, ratio in zip(grads_of(params), ratios, strict=True)]
        if group["weight_decay"]:  # ratio * (g + decay * w); biases and gains are not decayed
            decayed = [k for k, p in enumerate(params) if _adapted(group, p)]
            amounts = [ratios[k] * group["weight_decay"] for k in decayed]
            pull = torch._foreach_mul([params[k] for k in decayed], amounts) if decayed else []
            for k, term in zip(decayed, pull, strict=True):
                scaled[k].add_(term)
        inside = group["lr_inside"]
        if inside:
            torch._foreach_mul_(scaled, group["lr"])
        for p in params:
            if "momentum_buffer" not in self.state[p]:
                self.state[p]["momentum_buffer"] = torch.zeros_like(p)
        buffers = [self.state[p]["momentum_buffer"] for p in params]
        torch._foreach_mul_(buffers, group["momentum"])
        torch._foreach_add_(buffers, scaled)
        torch._foreach_add_(params, buffers, alpha=-1.0 if inside else -group["lr"])


def _adapted(group: dict[str, Any], p: Tensor) -> bool:
    return p.ndim > 1 or not group["exclude_vectors"]


def _ratios(group: dict[str, Any], params: list[Tensor], multiplier: float) -> list[Tensor]:
    """One factor per parameter; 1 where a tensor is excluded or a norm is zero."""
    weights = torch._foreach_norm(params)
    grads = torch._foreach_norm(grads_of(params))
    ratios = []
    for p, w, g in zip(params, weights, grads, strict=True):
        if _adapted(group, p):
            below = g + group["weight_decay"] * w
            ratio = group["trust"] * multiplier * w / below
            ratios.append(torch.where((w > 0) & (below > 0), ratio, torch.ones_like(ratio)))
        else:
            ratios.append(torch.ones_like(w))
    return ratios
