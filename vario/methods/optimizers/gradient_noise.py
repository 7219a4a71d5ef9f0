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

import ctypes
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from vario.methods._native import built
from vario.methods.optimizers._around import AroundOptimizer

__all__ = ["GradientNoise"]

NATIVE = Path(__file__).with_name("_gradient_noise.c")
CHUNK = 2**17  # entries that are drawn at a time

CARD = {
    "papers": ("P087",),
    "slot": "optimizer-around",
    "treats": ("loss-plateau", "symmetric-initialization", "poor-initialization"),
    "example": {"eta": 0.01},
    "cost": "4 bytes per parameter; with fused AdamW and a C compiler 0.65 x torch's default AdamW on 19 M "
    "parameters, 0.9 x on a transformer of 1 M; without a compiler up to 1.4 x (processor time, busy CPU)",
    "checked": "equation; closed form of the variance",
    "changed": "the draws of step t are made from (seed, t), so that nothing but two numbers need be saved. "
    "On a CPU, below float64, each draw is one of 65,536 quantiles of the normal distribution "
    "(largest 4.3, variance 1), named by a scrambled counter: torch's own draw takes longer than the step",
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
        self._draws: dict[torch.device, _Draws] = {}
        loss = super().step(closure)
        del self._draws  # nothing but the seed and the step need be saved
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
            if device not in self._draws:
                self._draws[device] = _Draws(device, _mix(group["noise_seed"], step))
            sizes = [-(-grads[k].numel() // 2) * 2 for k in places]  # so that other groups draw alike
            whole = self._room(params[places[0]], sum(sizes), dtype)
            flat = [grads[k].contiguous().view(-1) for k in places]
            rooms = [
                part[: len(grad)] for part, grad in zip(whole.split_with_sizes(sizes), flat, strict=True)
            ]
            self._draws[device].add(spread, flat, rooms, whole)
            for k, part in zip(places, rooms, strict=True):
                changed[k] = part.view(grads[k].shape)
        return changed

    def _room(self, first: Tensor, count: int, dtype: torch.dtype) -> Tensor:
        """Kept from step to step: on a CPU fresh memory costs more than what is done with it."""
        room = self.rooms.get(first)
        if room is None or room.numel() != count or room.dtype != dtype:
            room = self.rooms[first] = torch.empty(count, dtype=dtype, device=first.device)
        return room

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "rooms": {}}


class _Draws:
    """Normal draws of one step on one device, the same however the parameters are parted.

    On a CPU each is a quantile, named by half a random word: word k of a step is k, scrambled twice (the
    multipliers are those of C. Wellons' search for the least bias). Torch makes one number after the other.
    """

    def __init__(self, device: torch.device, seed: int) -> None:
        self.source = torch.Generator(device).manual_seed(seed)
        self.start, self.key = seed % 2**31, seed >> 32

    def add(self, spread: float, grads: Sequence[Tensor], rooms: Sequence[Tensor], whole: Tensor) -> None:
        """Fill each of ``rooms``, parts of ``whole``, with a gradient and its noise."""
        if whole.device.type != "cpu" or whole.dtype == torch.float64:
            whole.normal_(0.0, spread, generator=self.source)
            torch._foreach_add_(list(rooms), list(grads))
            return
        plain = whole.dtype == torch.float32 and not torch.compiler.is_compiling()
        kernel = built(NATIVE, "gradient_noise") if plain else None
        table = (_quantiles() * spread).to(whole.dtype)
        for grad, room in zip(grads, rooms, strict=True):
            if kernel:
                where = ctypes.c_uint32(self.start), ctypes.c_uint32(self.key)
                places = [ctypes.c_void_p(tensor.data_ptr()) for tensor in (table, grad, room)]
                kernel(ctypes.c_int64(len(room)), *where, *places, torch.get_num_threads())
            else:
                self._fill(room, table)
                room += grad
            self.start += -(-len(room) // 2)

    def _fill(self, room: Tensor, table: Tensor) -> None:
        for k, part in enumerate(room.split(CHUNK)):
            words = torch.arange(-(-len(part) // 2), dtype=torch.int32)
            words += _signed(self.start + k * CHUNK // 2)
            words ^= (words >> 16) & (2**16 - 1)  # the mask undoes that a shift keeps the sign
            words *= 0x7FEB352D
            words ^= (words >> 15) & (2**17 - 1)
            words += self.key
            words *= _signed(0x846CA68B)
            words ^= (words >> 16) & (2**16 - 1)
            place = words.view(torch.uint16)[: len(part)].to(torch.int32)
            torch.index_select(table, 0, place, out=part)


def _signed(word: int) -> int:
    """The number whose 32 bits are those of ``word``."""
    return (word + 2**31) % 2**32 - 2**31


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
