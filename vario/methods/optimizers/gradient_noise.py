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
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from vario.methods.optimizers._around import AroundOptimizer

__all__ = ["GradientNoise"]

CHUNK = 2**17  # entries that one call draws

CARD = {
    "papers": ("P087",),
    "slot": "optimizer-around",
    "treats": ("loss-plateau", "symmetric-initialization", "poor-initialization"),
    "example": {"eta": 0.01},
    "cost": "4 bytes per parameter; with fused AdamW 1.0 to 1.1 x torch's default AdamW on 19 M parameters, "
    "1.2 to 1.3 x on a transformer of 1 M: 0.3 the step, 0.25 the random bits, 0.25 the look-up of the "
    "quantiles (processor time, busy CPU)",
    "checked": "equation; closed form of the variance",
    "changed": "the draws of step t are made from (seed, t), so that nothing but two numbers need be saved. "
    "On a CPU, below float64, each draw is one of 65,536 quantiles of the normal distribution "
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
        self.rooms: dict[Tensor, Tensor] = {}

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        self._sources: dict[torch.device, torch.Generator] = {}
        loss = super().step(closure)
        del self._sources  # nothing but the seed and the step need be saved
        return loss

    def _change(self, group: dict[str, Any], params: list[Tensor], grads: list[Tensor]) -> list[Tensor]:
        step = group["noise_step"]
        group["noise_step"] = step + 1
        spread = (group["eta"] / (1 + step) ** group["gamma"]) ** 0.5
        alike: dict[tuple[torch.device, torch.dtype], list[int]] = {}
        for k, grad in enumerate(grads):
            alike.setdefault((grad.device, grad.dtype), []).append(k)
        changed = list(grads)
        for (device, dtype), places in alike.items():
            if device not in self._sources:
                seed = _mix(group["noise_seed"], step)
                self._sources[device] = torch.Generator(device).manual_seed(seed)
            sizes = [-(-grads[k].numel() // 4) * 4 for k in places]  # so that other groups draw alike
            noise = self._room(params[places[0]], sum(sizes), dtype)
            _draw(noise, spread, self._sources[device])
            for k, part in zip(places, noise.split_with_sizes(sizes), strict=True):
                changed[k] = part[: grads[k].numel()].view(grads[k].shape)
            torch._foreach_add_([changed[k] for k in places], [grads[k] for k in places])
        return changed

    def _room(self, first: Tensor, count: int, dtype: torch.dtype) -> Tensor:
        """Kept from step to step: on a CPU fresh memory costs more than what is done with it."""
        room = self.rooms.get(first)
        if room is None or room.numel() != count or room.dtype != dtype:
            room = self.rooms[first] = torch.empty(count, dtype=dtype, device=first.device)
        return room

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "rooms": {}}


def _draw(into: Tensor, spread: float, source: torch.Generator) -> None:
    """Normal draws, a multiple of 4: on a CPU a quantile each, named by sixteen random bits."""
    if source.device.type != "cpu" or into.dtype == torch.float64:
        into.normal_(0.0, spread, generator=source)
        return
    table = (_quantiles() * spread).to(into.dtype)
    words = torch.empty(min(into.numel(), CHUNK) // 4, dtype=torch.int64)
    place = torch.empty(4 * words.numel(), dtype=torch.int32)
    for part in into.split(CHUNK):
        count = part.numel()
        bits = words[: count // 4].random_(-(2**63), None, generator=source)
        torch.index_select(table, 0, place[:count].copy_(bits.view(torch.uint16)), out=part)


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
