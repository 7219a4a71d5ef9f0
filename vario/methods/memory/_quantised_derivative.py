"""An activation that keeps a few bits per entry for its backward pass, instead of its input.

The forward pass is exact. For the backward pass the derivative is a step function: ``borders`` between its
steps and one ``levels`` value for each. What is saved is the number of the step, in bit planes: plane k holds
bit k of eight entries per byte.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vario.methods._native import built
from vario.methods.memory._compiled import compiled

Function = Callable[[Tensor], Tensor]
NATIVE = Path(__file__).with_name("_quantised_derivative.c")


class StepDerivative(torch.autograd.Function):
    """``apply(x, forward, borders, levels, eager)``; borders (k - 1,) and levels (k,) are tuples."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        forward: Function,
        borders: tuple[float, ...],
        levels: tuple[float, ...],
        eager: bool,
    ) -> Tensor:
        ctx.shape, ctx.levels, ctx.eager = x.shape, levels, eager
        ctx.save_for_backward(_planes(_in_eight_rows(x.detach()), borders, eager=eager))
        return forward(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (planes,) = ctx.saved_tensors
        out = _times_levels(_in_eight_rows(grad), planes, ctx.levels, eager=ctx.eager)
        return out.view(-1)[: grad.numel()].view(ctx.shape).to(grad.dtype), None, None, None, None


def _in_eight_rows(x: Tensor) -> Tensor:
    """The entries as (8, n), filled up with zeros, in at least float32."""
    flat = x.reshape(-1).to(torch.promote_types(x.dtype, torch.float32))
    if len(flat) % 8:
        flat = torch.nn.functional.pad(flat, (0, 8 - len(flat) % 8))
    return flat.view(8, -1)


def _planes(x: Tensor, borders: tuple[float, ...], *, eager: bool) -> Tensor:
    """Bit planes uint8 (bits, n) of x (8, n)."""
    kernel = None if eager else _kernel("pack_steps", x)
    if kernel is None:
        return _pack(x, borders) if eager or _as_it_is(x) else _packer(borders)(x)
    planes = torch.empty(len(borders).bit_length(), x.shape[1], dtype=torch.uint8)
    _run(kernel, len(planes), x, torch.tensor(borders, dtype=torch.float32), planes)
    return planes


def _times_levels(grad: Tensor, planes: Tensor, levels: tuple[float, ...], *, eager: bool) -> Tensor:
    """The gradient (8, n) times the level of each entry."""
    kernel = None if eager else _kernel("times_levels", grad)
    if kernel is None:
        plain = eager or _as_it_is(grad)
        return _multiply(grad, planes, levels) if plain else _multiplier(levels)(grad, planes)
    product = torch.empty_like(grad)
    _run(kernel, len(planes), grad, torch.tensor(levels, dtype=torch.float32), planes, product)
    return product


def _as_it_is(x: Tensor) -> bool:
    """On a CPU compiled code is slower than the kernel in C; and what is being compiled takes this along."""
    return x.device.type == "cpu" or torch.compiler.is_compiling()


def _kernel(name: str, x: Tensor) -> Any:
    """The function in C for float32 on a CPU, unless what it makes is to be differentiated."""
    plain = x.device.type == "cpu" and x.dtype == torch.float32 and not torch.compiler.is_compiling()
    return built(NATIVE, name) if plain and not (x.requires_grad and torch.is_grad_enabled()) else None


def _run(kernel: Any, bits: int, *tensors: Tensor) -> None:
    places = [ctypes.c_void_p(tensor.data_ptr()) for tensor in tensors]
    kernel(ctypes.c_int64(tensors[0].shape[1]), *places, bits, torch.get_num_threads())


def _pack(x: Tensor, borders: tuple[float, ...]) -> Tensor:
    step = torch.zeros_like(x, dtype=torch.int32)
    for border in borders:
        step = step + (x > border).to(torch.int32)
    planes = []
    for k in range(len(borders).bit_length()):
        plane = torch.zeros_like(step[0])
        for j in range(8):
            plane = plane | (((step[j] >> k) & 1) << j)
        planes.append(plane.to(torch.uint8))
    return torch.stack(planes)


def _multiply(grad: Tensor, planes: Tensor, levels: tuple[float, ...]) -> Tensor:
    rows = []
    for j in range(8):
        slopes: list[Tensor | float] = list(levels)
        for k in range((len(levels) - 1).bit_length()):  # halve the choice with each bit
            high = (planes[k].to(torch.int32) & (1 << j)) != 0
            slopes = [torch.where(high, b, a) for a, b in zip(slopes[::2], slopes[1::2], strict=True)]
        rows.append(grad[j] * slopes[0])
    return torch.stack(rows)


@functools.cache
def _packer(borders: tuple[float, ...]) -> Callable[..., Tensor]:
    def pack(x: Tensor) -> Tensor:
        return _pack(x, borders)

    return compiled(pack)


@functools.cache
def _multiplier(levels: tuple[float, ...]) -> Callable[..., Tensor]:
    def multiply(grad: Tensor, planes: Tensor) -> Tensor:
        return _multiply(grad, planes, levels)

    return compiled(multiply)


def best_steps(
    values: Tensor, grid: Tensor, count: int
) -> tuple[tuple[float, ...], tuple[float, ...], float]:
    """Borders, levels and squared error of the best step function of ``count`` steps (dynamic programming).

    ``values`` (n,) holds the function at the middles of the cells that ``grid`` (n + 1,) bounds; borders fall
    on the grid.
    """
    width = grid.diff()
    zero = torch.zeros(1, dtype=torch.float64)
    length, first, second = (
        torch.cat([zero, part.cumsum(0)]) for part in (width, values * width, values.square() * width)
    )
    span = (length[None, :] - length[:, None]).clamp(min=1e-300)
    cost = (second[None, :] - second[:, None]) - (first[None, :] - first[:, None]).square() / span
    cost = torch.where(
        torch.ones_like(cost).triu(1) > 0, cost, torch.inf
    )  # cost[i, j]: one step on cells i..j-1
    best, came_from = cost[0].clone(), []
    for _ in range(count - 1):
        best, origin = (best[:, None] + cost).min(dim=0)
        came_from.append(origin)
    ends = [len(values)]
    for origin in reversed(came_from):
        ends.append(int(origin[ends[-1]]))
    cuts = [0, *reversed(ends)]
    levels = [float((first[b] - first[a]) / (length[b] - length[a])) for a, b in pairwise(cuts)]
    return tuple(float(grid[c]) for c in cuts[1:-1]), tuple(levels), float(best[len(values)])
