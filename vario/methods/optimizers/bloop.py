r"""Bloop: an auxiliary loss followed only where it does not disturb the training loss.

.. math::
    \bar g \leftarrow (1 - \rho)\, \bar g + \rho\, g_{train}, \qquad
    d = g_{train} + \lambda \left(g_{aux} - \frac{\langle g_{aux}, \bar g \rangle}{\|\bar g\|^2} \bar g\right)

The projection is on a moving average of the training gradient, not on the present noisy one, so that on
average it is orthogonal to the direction that matters.

When to use: two losses pull against each other (gradient-conflict) and one of them comes first: a
regularizer, a second data set, robustness.

When not to: both losses matter alike: sum them. Costs a second backward pass.

>>> w = torch.nn.Parameter(torch.tensor([2.0, 2.0]))
>>> optimizer = Bloop(torch.optim.SGD([w], lr=0.1), weight=1.0)
>>> for _ in range(200):
...     optimizer.zero_grad()
...     optimizer.auxiliary(((w - 1) ** 2).sum())  # wants (1, 1)
...     (w[0] ** 2).backward()  # wants w[0] = 0 and comes first
...     optimizer.step()
>>> [round(x, 2) + 0.0 for x in w.tolist()]
[0.0, 1.0]
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from vario.methods.optimizers._around import AroundOptimizer

__all__ = ["Bloop"]

CARD = {
    "papers": ("P232",),
    "slot": "optimizer-around",
    "treats": ("gradient-conflict",),
    "example": {},
    "cost": "4 bytes per parameter (the average), a second backward pass for the auxiliary loss",
    "checked": "equation; torchjd 0.18's PCGrad, which in conflict is this both ways round without the "
    "average; authors' code apple/ml-bloop c4626c6 (Apple sample code licence), read",
    "changed": "nothing: the average starts at the first gradient, as in the authors' code. Steps without an "
    "auxiliary loss are steps of the inner optimizer",
    "shown": "degenerate noisy quadratic, 20 dimensions, 5 of them constrained: training loss at most 0.2x "
    "that of the weighted sum and 0.3x that of projecting on the present gradient or by PCGrad, at an equal "
    "auxiliary loss",
}


class Bloop(AroundOptimizer):
    """Call ``auxiliary(loss)`` before ``step()``; the training loss goes through ``backward()`` as always.

    ``rate`` is the weight of the newest gradient in the average, ``weight`` the lambda of the equation.
    """

    def __init__(self, base: Optimizer, *, weight: float = 0.1, rate: float = 0.1) -> None:
        if not 0 < rate <= 1:
            raise ValueError(f"Bloop: rate is {rate}; it must be above 0 and at most 1 (1 is no average).")
        super().__init__(base, {"bloop_weight": weight, "bloop_rate": rate})
        self._auxiliary: dict[Tensor, Tensor] = {}
        self._share_of_average: Tensor | None = None

    def auxiliary(self, loss: Tensor) -> None:
        """Take the gradient of the auxiliary loss, apart from ``.grad``; several calls add up."""
        params = [p for group in self.param_groups for p in group["params"] if p.requires_grad]
        keep = loss.grad_fn is not None  # the training loss may share this graph
        grads = torch.autograd.grad(loss, params, retain_graph=keep, allow_unused=True)
        for p, g in zip(params, grads, strict=True):
            if g is not None:
                self._auxiliary[p] = self._auxiliary[p] + g if p in self._auxiliary else g

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        lone = [p for p in self._auxiliary if p.grad is None]  # a head that only the auxiliary loss has
        for p in lone:
            p.grad = torch.zeros_like(p)
        try:
            self._share_of_average = self._project()
            super().step()
        finally:
            for p in lone:
                p.grad = None
            self._auxiliary = {}
        return loss

    def _project(self) -> Tensor | None:
        """Move the average; return <g_aux, average> / |average|^2 over all parameters together."""
        along = length = None
        for group in self.param_groups:
            for p in (p for p in group["params"] if p.grad is not None):
                state = self.own.setdefault(p, {})
                if "average" not in state:
                    state["average"] = p.grad.detach().clone()
                else:
                    state["average"].lerp_(p.grad, group["bloop_rate"])
                if not self._auxiliary:
                    continue
                wide = state["average"].flatten().to(torch.promote_types(p.dtype, torch.float32))
                square = torch.dot(wide, wide)
                length = square if length is None else length + square.to(length)
                if p in self._auxiliary:
                    product = torch.dot(self._auxiliary[p].flatten().to(wide.dtype), wide)
                    along = product if along is None else along + product.to(along)
        if along is None or length is None:
            return None
        return along / (length + torch.finfo(length.dtype).tiny)

    def _change(self, group: dict[str, Any], params: list[Tensor], grads: list[Tensor]) -> list[Tensor]:
        share, weight = self._share_of_average, group["bloop_weight"]
        if share is None:
            return grads
        changed = []
        for p, g in zip(params, grads, strict=True):
            average = self.own[p]["average"]
            across = -share.to(g.dtype) * average
            if p in self._auxiliary:
                across = across + self._auxiliary[p]
            changed.append(torch.add(g, across, alpha=weight))
        return changed
