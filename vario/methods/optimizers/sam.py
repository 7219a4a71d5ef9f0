r"""SAM: the gradient from the top of a small hill beside the weights, so that flat minima win.

.. math:: g = \nabla f\Big(w + \rho \frac{\nabla f(w)}{\|\nabla f(w)\|}\Big)

The inner optimizer steps from w on g.

``normalize=False`` leaves out the norm (USAM).

When to use: overfitting with a large gap between training and validation, and time to spare.

When not to: the step time matters (two gradients per step); near saddles: with a large rho SAM stays there.

>>> import torch
>>> w = torch.nn.Parameter(torch.tensor([1.0]))
>>> optimizer = SAM(torch.optim.SGD([w], lr=0.1), rho=0.5)
>>> def closure():
...     optimizer.zero_grad(); loss = w.square().sum(); loss.backward(); return loss
>>> optimizer.step(closure).item(), round(w.item(), 3)  # gradient 3 of the point 1.5, not 2 of the point 1
(1.0, 0.7)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from vario.methods.optimizers._around import AroundOptimizer

__all__ = ["SAM"]

CARD = {
    "papers": ("P268",),
    "slot": "optimizer-around",
    "treats": ("overfitting",),
    "example": {"rho": 0.05},
    "cost": "a second forward and backward pass; one copy of the weights during the step",
    "checked": "equation; trajectory of pytorch_optimizer.SAM 4.1",
    "changed": "built, not wrapped: the package's step(closure) wants the first gradient before it is "
    "called, "
    "which no trainer does. Here step(closure) is torch's contract: the closure is called twice",
    "shown": "at the saddle of x^2 - y^2 gradient descent escapes and SAM with a large rho stays, as P268 "
    "says. "
    "Better test accuracy: not shown here",
}


class SAM(AroundOptimizer):
    """``step(closure)`` needs the closure: it is evaluated at the weights and beside them."""

    second_pass = True

    def __init__(self, base: Optimizer, *, rho: float = 0.05, normalize: bool = True) -> None:
        if not rho >= 0:
            raise ValueError(f"SAM: rho is {rho}; a radius is 0 or more.")
        super().__init__(base, {"rho": rho, "normalize": normalize})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        if closure is None:
            raise ValueError(
                "SAM.step needs a closure that clears the gradients, computes the loss, calls backward and "
                "returns "
                "the loss: optimizer.step(closure)."
            )
        with torch.enable_grad():
            loss = closure()
        moved = [(p, p.detach().clone()) for p in self._params() if p.grad is not None]
        try:
            self._climb()
            with torch.enable_grad():
                closure()
        finally:  # also where the closure breaks off: the weights are the user's
            for p, weight in moved:
                p.copy_(weight)
        self.base.step()
        return loss

    def _climb(self) -> None:
        grads = [p.grad for p in self._params() if p.grad is not None]
        if not grads:
            return
        length = torch.linalg.vector_norm(
            torch.stack([torch.linalg.vector_norm(g).to(grads[0].device, torch.float64) for g in grads])
        )
        for group in self.param_groups:
            scale = group["rho"] / (length + 1e-12) if group["normalize"] else group["rho"] + 0 * length
            for p in group["params"]:
                if p.grad is not None:
                    p.add_(p.grad * scale.to(p))

    def _change(self, group: dict[str, Any], params: list[Tensor], grads: list[Tensor]) -> list[Tensor]:
        return grads
