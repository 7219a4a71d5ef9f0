r"""Gaussian noise on the gradient that fades as training goes on.

.. math:: g \leftarrow g + \mathcal N(0, \sigma_t^2), \qquad \sigma_t^2 = \frac{\eta}{(1 + t)^{\gamma}}, \;
    \gamma = 0.55

When to use: training starts at a saddle or in a poor initialization and does not leave it; very deep plain
networks. The paper's eta: 0.01, 0.3 or 1. Clip the gradient first.

When not to: small batches, which are noisy already.

>>> w = torch.nn.Parameter(torch.zeros(2))  # (xy - 1)^2 has a saddle at 0: no gradient at all
>>> optimizer = GradientNoise(torch.optim.SGD([w], lr=0.1), eta=0.01, seed=1)
>>> for _ in range(300):
...     optimizer.zero_grad(); ((w[0] * w[1] - 1) ** 2).backward(); optimizer.step()
>>> bool((w.prod() - 1).abs() < 0.3)
True
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from vario.methods.optimizers._around import AroundOptimizer

__all__ = ["GradientNoise"]

CARD = {
    "papers": ("P087",),
    "slot": "optimizer-around",
    "treats": ("loss-plateau", "symmetric-initialization", "poor-initialization"),
    "example": {"eta": 0.01},
    "cost": "one normal draw per parameter and step: with fused AdamW 1.7 x torch's default AdamW on a "
    "busy CPU",
    "checked": "equation; closed form of the variance",
    "changed": "the draw of step t is made from (seed, t, parameter), so that nothing but two numbers need "
    "be saved",
    "shown": "leaves the exact saddle of (xy - 1)^2 on ten of ten seeds where gradient descent stays. "
    "Not shown here: the 20-layer network of the paper (accuracy 0.10 for every eta, N(0, 0.1) start, "
    "1,500 steps)",
}


class GradientNoise(AroundOptimizer):
    """``base`` steps on gradients with noise of variance eta / (1 + t)^gamma; t counts the steps."""

    def __init__(self, base: Optimizer, *, eta: float = 0.3, gamma: float = 0.55, seed: int = 0) -> None:
        if not eta >= 0:
            raise ValueError(f"GradientNoise: eta is {eta}; a variance is 0 or more.")
        super().__init__(base, {"eta": eta, "gamma": gamma, "noise_seed": seed, "noise_step": 0})

    def _change(self, group: dict[str, Any], params: list[Tensor], grads: list[Tensor]) -> list[Tensor]:
        step = group["noise_step"]
        group["noise_step"] = step + 1
        spread = (group["eta"] / (1 + step) ** group["gamma"]) ** 0.5
        first = 0  # the place of the group's first parameter, so that no two parameters share a draw
        for other in self.param_groups:
            if other is group:
                break
            first += len(other["params"])
        place = {p: first + k for k, p in enumerate(group["params"])}
        return [
            g + spread * _normal(g, _mix(group["noise_seed"], step, place[p]))
            for p, g in zip(params, grads, strict=True)
        ]


def _normal(like: Tensor, seed: int) -> Tensor:
    draw = torch.Generator(device=like.device).manual_seed(seed)
    return torch.randn(like.shape, generator=draw, dtype=like.dtype, device=like.device)


def _mix(*numbers: int) -> int:
    """One well-spread 63-bit number from several (splitmix64)."""
    state = 0
    for number in numbers:
        state = (state + number + 0x9E3779B97F4A7C15) % 2**64
        state = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        state = (state ^ (state >> 27)) * 0x94D049BB133111EB % 2**64
        state ^= state >> 31
    return state >> 1
