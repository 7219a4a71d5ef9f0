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

import functools
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from vario.methods.optimizers._around import AroundOptimizer

__all__ = ["GradientNoise"]

CHUNK = 2**15  # entries that stay in the cache

CARD = {
    "papers": ("P087",),
    "slot": "optimizer-around",
    "treats": ("loss-plateau", "symmetric-initialization", "poor-initialization"),
    "example": {"eta": 0.01},
    "cost": "one normal draw per parameter and step: with fused AdamW 0.9 to 1.1 x torch's default AdamW "
    "on 19 M parameters, 1.7 to 1.9 x on a transformer of 1 M, whose gradients come from the "
    "cache and the noise does not (processor time, busy CPU)",
    "checked": "equation; closed form of the variance",
    "changed": "the draw of step t is made from (seed, t, parameter), so that nothing but two numbers need "
    "be saved. On a CPU, below float64, each draw is one of 65,536 quantiles of the normal distribution "
    "(largest 4.3, variance 1): torch's own draw takes longer than the rest of the step",
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
        seeds = [_mix(group["noise_seed"], step, place[p]) for p in params]
        longest = min(CHUNK, max((g.numel() for g in grads), default=0))
        desk = _Desk(-(-longest // 4) * 4)
        return [_noisy(g, spread, seed, desk) for g, seed in zip(grads, seeds, strict=True)]


class _Desk:
    """Room for one stretch of draws, the same for all parameters of a group."""

    def __init__(self, size: int) -> None:
        self.bits = torch.empty(size // 4, dtype=torch.int64)
        self.place, self.noise = torch.empty(size, dtype=torch.int32), torch.empty(size)

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Normal draws (count,), good until the next: a quantile each, named by sixteen random bits."""
        words = -(-count // 4)
        bits = self.bits[:words].random_(-(2**63), None, generator=generator)
        place, noise = self.place[: 4 * words], self.noise[: 4 * words]
        torch.index_select(_quantiles(), 0, place.copy_(bits.view(torch.uint16)), out=noise)
        return noise[:count]


def _noisy(grad: Tensor, spread: float, seed: int, desk: _Desk) -> Tensor:
    generator = torch.Generator(device=grad.device).manual_seed(seed)
    if grad.device.type != "cpu" or grad.dtype == torch.float64 or not grad.is_contiguous():
        noise = torch.randn(grad.shape, generator=generator, dtype=grad.dtype, device=grad.device)
        return torch.add(grad, noise, alpha=spread)
    out = torch.empty_like(grad)
    for part, to in zip(grad.view(-1).split(CHUNK), out.view(-1).split(CHUNK), strict=True):
        torch.add(part, desk.draw(len(part), generator), alpha=spread, out=to)
    return out


@functools.cache
def _quantiles() -> Tensor:
    """The middles of 65,536 equal shares of the normal distribution, scaled to variance 1."""
    share = (torch.arange(2**16, dtype=torch.float64) + 0.5) / 2**16
    middle = torch.special.ndtri(share)
    scaled: Tensor = middle / middle.square().mean().sqrt()
    return scaled.float()


def _mix(*numbers: int) -> int:
    """One well-spread 63-bit number from several (splitmix64)."""
    state = 0
    for number in numbers:
        state = (state + number + 0x9E3779B97F4A7C15) % 2**64
        state = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        state = (state ^ (state >> 27)) * 0x94D049BB133111EB % 2**64
        state ^= state >> 31
    return state >> 1
