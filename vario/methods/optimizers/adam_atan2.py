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

import ctypes
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import increment_version
from torch.optim import Optimizer

from vario.methods._native import built
from vario.methods.optimizers._checks import check_gradients, check_lr, check_share, grads_of

__all__ = ["AdamAtan2"]

NATIVE = Path(__file__).with_name("_adam_atan2.c")
CHUNK = 2**17  # entries that stay in the cache between the operations of a step
SAFE = (1e-6, 1e12)  # largest gradients of a tensor whose squares are kept as they are

Row = tuple[Tensor, ...]  # flat: weights, gradient, first and second moment

CARD = {
    "papers": ("P355",),
    "slot": "optimizer",
    "rate_of": ("adam", "rms", "lamb"),
    "treats": ("adam-epsilon-dominates", "low-precision-underflow"),
    "example": {},
    "cost": "8 bytes per parameter, as Adam; with a C compiler 0.4 x the time of torch's default AdamW on "
    "19 M parameters, 0.65 x on a transformer of 1 M; without one 1.3 to 1.5 x, of which torch's arctangent "
    "takes 0.8 (processor time, busy CPU)",
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
        if not b > 0:
            raise ValueError(f"AdamAtan2: b is {b}; it must be above 0.")
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
            check_gradients("AdamAtan2", params)
            if params:
                self._move(group, params)
        return loss

    def _move(self, group: dict[str, Any], params: list[Tensor]) -> None:
        alike: dict[Any, list[Row]] = {}  # what one call may take together
        copied: list[tuple[Tensor, Tensor]] = []
        for p, g in zip(params, grads_of(params), strict=True):
            state = self.state[p]
            if not state:
                state["step"] = 0
                for name in ("exp_avg", "exp_avg_sq"):
                    state[name] = torch.zeros_like(p, memory_format=torch.contiguous_format)
                state["scale"] = p.new_tensor(torch.finfo(p.dtype).tiny)
            state["step"] += 1
            if p.numel():
                row = (p.detach(), _in_scale(g, state), state["exp_avg"], state["exp_avg_sq"])
                flat = tuple(tensor.reshape(-1) for tensor in row)
                alike.setdefault((state["step"], p.dtype, p.device), []).append(flat)
                if not p.is_contiguous():
                    copied.append((p, flat[0]))
        for (count, dtype, device), rows in alike.items():
            plain = device.type == "cpu" and dtype == torch.float32 and not torch.compiler.is_compiling()
            kernel = built(NATIVE, "adam_atan2") if plain else None
            if kernel:
                _run_native(kernel, group, rows, count)
                continue
            parts = list(_cache_fuls(rows)) if device.type == "cpu" else [rows]
            longest = max(sum(row[0].numel() for row in part) for part in parts)
            desk, counted = (
                torch.empty(longest, dtype=dtype, device=device),
                torch.tensor(float(count), device=device),
            )
            for part in parts:
                _step(group, part, desk, counted)
        for p, flat_p in copied:
            p.copy_(flat_p.view_as(p))


def _run_native(kernel: Any, group: dict[str, Any], rows: list[Row], count: int) -> None:
    """One step of flat float32 weights, in place, by the kernel in C."""
    beta1, beta2 = group["betas"]
    over1, over2 = 1 / (1 - beta1**count), group["b"] / (1 - beta2**count) ** 0.5
    shrink = 1 - group["lr"] * group["weight_decay"]
    numbers = (ctypes.c_float * 7)(
        1 - beta1, beta2, 1 - beta2, over1, over2, shrink, group["lr"] * group["a"]
    )
    threads = torch.get_num_threads()
    for row in rows:
        row = tuple(tensor.contiguous() for tensor in row)
        places = [ctypes.c_void_p(tensor.data_ptr()) for tensor in row]
        kernel(ctypes.c_int64(row[0].numel()), *places, numbers, threads)
        increment_version(row[0])


def _step(group: dict[str, Any], rows: list[Row], desk: Tensor, count: Tensor) -> None:
    """One step of flat weights, in place; ``desk`` has room for what they move by."""
    weights, slopes, first, second = (list(column) for column in zip(*rows, strict=True))
    sizes = [weight.numel() for weight in weights]
    angles = desk[: sum(sizes)].zero_()
    moves = list(angles.split_with_sizes(sizes))
    beta1, beta2 = group["betas"]
    # Adam at rate -1 from zero is the quotient of the moments; its epsilon only keeps 0 / 0 away
    torch._fused_adam_(
        moves,
        slopes,
        first,
        second,
        [],
        [count] * len(moves),
        lr=-1.0,
        beta1=beta1,
        beta2=beta2,
        weight_decay=0.0,
        eps=torch.finfo(desk.dtype).tiny,
        amsgrad=False,
        maximize=False,
    )
    if group["b"] != 1:
        angles /= group["b"]
    angles.atan_()
    if group["weight_decay"]:
        torch._foreach_mul_(weights, 1 - group["lr"] * group["weight_decay"])
    torch._foreach_add_(weights, moves, alpha=-group["lr"] * group["a"])


def _cache_fuls(rows: list[Row]) -> Iterator[list[Row]]:
    """The same rows, cut and gathered so that each part stays in the cache between the operations."""
    part: list[Row] = []
    room = CHUNK
    for row in rows:
        long = row[0].numel() > CHUNK
        for piece in zip(*(column.split(CHUNK) for column in row), strict=True) if long else (row,):
            if piece[0].numel() > room:
                yield part
                part, room = [], CHUNK
            part.append(piece)
            room -= piece[0].numel()
    yield part


def _in_scale(grad: Tensor, state: dict[str, Any]) -> Tensor:
    """The gradient over the scale of its parameter; a new scale changes the units of the moments too."""
    low, high = torch.aminmax(grad)
    before = state["scale"]
    # on other devices never: asking would wait
    if grad.device.type == "cpu" and before.item() == 1 and max(high.item(), -low.item()) < SAFE[1]:
        return grad
    top = torch.maximum(high, -low)
    usual = (top > SAFE[0]) & (top < SAFE[1])
    scale = torch.maximum(before, torch.where(usual, torch.ones_like(top), top))
    state["scale"] = scale
    state["exp_avg"].mul_(before / scale)
    state["exp_avg_sq"].mul_((before / scale).square())
    return grad / scale
