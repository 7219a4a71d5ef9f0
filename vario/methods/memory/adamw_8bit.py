r"""AdamW whose two moments take one byte each.

.. math::
    m \leftrightarrow \mathrm{sign}(m)\, \mathrm{round}\!\left(127 \sqrt{|m| / \max_B |m|}\right), \qquad
    v \leftrightarrow \mathrm{round}\!\left(255\, (v / \max_B v)^{1/4}\right)

with one scale per block B of 256 entries. Each step decodes, updates and encodes again; the step itself uses
the fresh moments, before they are rounded.

When to use: the optimizer's state does not fit, and AdamW's settings are to stay as they are.

When not to: small models: nothing is gained. Without a C compiler the step runs eagerly and is slow.

>>> w = torch.nn.Parameter(torch.ones(64, 128))
>>> optimizer = AdamW8bit([w], lr=0.1, compile=False); w.grad = torch.ones_like(w); optimizer.step()
>>> sum(t.nbytes for t in optimizer.state[w].values() if torch.is_tensor(t)) / w.numel()  # AdamW: 8
2.03125
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import increment_version
from torch.optim import Optimizer

from vario.methods._native import built
from vario.methods._saved import put_back
from vario.methods.memory._block_codes import BLOCK, HALF, Halves, decode, encode, pack, per_scale, scales_of
from vario.methods.memory._compiled import compiled

__all__ = ["AdamW8bit"]

NATIVE = Path(__file__).with_name("_adamw_8bit.c")
LARGE = 2**16  # entries that are worth a call of their own
EAGER = 256  # blocks that stay in the cache between the operations of an eager step
Piece = tuple[Tensor, Tensor, list[Tensor]]  # flat weights, flat gradient, words and scales

CARD = {
    "papers": ("P002",),
    "slot": "optimizer",
    "rate_of": ("adam", "rms", "lamb"),
    "treats": (),
    "example": {"min_size": 4, "compile": False},
    "cost": "2.03 bytes per parameter; with a C compiler 1.7 to 1.9 x torch's fused AdamW on 19 M "
    "parameters, 1.8 to 2.0 x on a transformer of 1 M in 28 tensors, one thread (processor time, busy CPU). "
    "The kernel is built in the first step, in less than a second. On a GPU torch.compile makes it: the time "
    "is not measured",
    "checked": "equation; the code book of bitsandbytes 95f9af30 (create_dynamic_map), read (MIT)",
    "changed": "roots in place of the paper's dynamic tree code book, which needs a search per entry; "
    "the second moment never rounds to zero; no stable embedding layer. Parameters below 256 entries keep "
    "32-bit moments (4,096 in bitsandbytes)",
    "shown": "error of Adam's second moment with outliers 2.3 % where linear 8-bit codes per tensor lose "
    "more than 90 % of the entries (scales of entries spread by e; by e^2 it is 26 to 43 %: entries below "
    "2e-10 of the largest of their block are taken for larger); MNIST-5k within 0.5 point of AdamW over 5 "
    "seeds",
}


class AdamW8bit(Optimizer):
    """As ``torch.optim.AdamW``. Eager with ``compile=False``, and for float64 weights on a CPU."""

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        min_size: int = BLOCK,
        compile: bool = True,
    ) -> None:
        if not lr >= 0:
            raise ValueError(f"AdamW8bit: invalid learning rate {lr}; it must be 0 or more.")
        if not all(0 <= beta < 1 for beta in betas) or not eps > 0:
            raise ValueError(f"AdamW8bit: betas {betas} must be in [0, 1) and eps {eps} above 0.")
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        super().__init__(
            params, {**defaults, "min_size": min_size, "compile": compile, "decoupled_weight_decay": True}
        )

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            alike: dict[Any, list[Tensor]] = {}  # parameters that one kernel may take together
            for p in group["params"]:
                if p.grad is not None and p.numel():
                    state = self.state[p]
                    if not state:
                        _start(state, p, group["min_size"])
                    state["step"] += 1
                    kind = (state["step"], "moment1" in state, p.dtype, p.grad.dtype, p.device)
                    alike.setdefault(kind, []).append(p)
            for (step, plain, *_), params in alike.items():
                numbers = _numbers(group, step)
                if plain:
                    _plain(params, [self.state[p] for p in params], numbers)
                else:
                    self._move(params, numbers, eager=not group["compile"])
        return loss

    def _move(self, params: list[Tensor], numbers: tuple[float, ...], *, eager: bool) -> None:
        """Large parameters in place; small ones, and what is left of a large one, in one piece."""
        # numbers that change must be tensors, or each new learning rate compiles a new kernel
        settings = torch.tensor(numbers, dtype=torch.float32, device=params[0].device)
        if params[0].device.type == "cpu" and not torch.compiler.is_compiling():
            kernel = None if eager or params[0].dtype == torch.float64 else built(NATIVE, "adamw_8bit")
            if kernel:
                return _run_native(kernel, params, [self.state[p] for p in params], settings)
            eager = True
        pieces: list[Piece] = []
        for p in params:
            codes = [self.state[p][name] for name in ("words", "scales1", "scales2")]
            flat, slope = p.reshape(-1), grad_of(p).reshape(-1)
            whole = p.numel() // BLOCK if p.numel() >= LARGE else 0
            if whole:
                body = [code[:whole] for code in codes]
                _run(flat[: whole * BLOCK], slope[: whole * BLOCK], body, settings, eager=eager)
            if whole * BLOCK < p.numel():
                pieces.append((flat[whole * BLOCK :], slope[whole * BLOCK :], [c[whole:] for c in codes]))
            if sum(len(piece[0]) for piece in pieces) >= LARGE:
                _run_together(pieces, settings, eager=eager)
                pieces = []
            if not p.is_contiguous():
                _run_together(pieces, settings, eager=eager)
                pieces = []
                p.copy_(flat.view_as(p))
        _run_together(pieces, settings, eager=eager)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Codes and scales as they were saved: torch casts state to the dtype of the weights.

        A file of ``torch.optim.AdamW`` goes on here: its moments are encoded.
        """
        super().load_state_dict(state_dict)
        for group in self.param_groups:
            group.update({key: value for key, value in self.defaults.items() if key not in group})
        put_back(self, state_dict)
        for group in self.param_groups:
            for p in group["params"]:
                if "exp_avg" in self.state.get(p, ()):
                    self.state[p] = _encoded(self.state[p], p, group["min_size"])


def _start(state: dict[str, Any], p: Tensor, min_size: int) -> None:
    if grad_of(p).layout is not torch.strided or p.is_complex():
        raise ValueError(
            f"AdamW8bit: the gradient of a parameter of shape {tuple(p.shape)} is sparse or complex, and "
            f"only dense real ones are stepped on. Give that parameter an optimizer of its own."
        )
    state.update(_zeros(p, min_size), step=0)


def _zeros(p: Tensor, min_size: int) -> dict[str, Any]:
    if p.numel() < min_size:
        wide = torch.promote_types(p.dtype, torch.float32)
        return {name: torch.zeros_like(p, dtype=wide) for name in ("moment1", "moment2")}
    blocks = -(-p.numel() // BLOCK)
    words = torch.zeros(blocks, HALF, dtype=torch.int32, device=p.device)
    scales = {name: torch.zeros(blocks, 1, device=p.device) for name in ("scales1", "scales2")}
    return {"words": words, **scales}


def _encoded(saved: dict[str, Any], p: Tensor, min_size: int) -> dict[str, Any]:
    """The state of torch's AdamW as ours."""
    moments = [saved[name].float().reshape(-1) for name in ("exp_avg", "exp_avg_sq")]
    state = _zeros(p, min_size)
    if "moment1" in state:
        for name, moment in zip(state, moments, strict=True):
            state[name].copy_(moment.view_as(p))
    else:
        whole = [nn.functional.pad(moment, (0, -len(moment) % BLOCK)) for moment in moments]
        state = dict(zip(state, encode(_halves(whole[0]), _halves(whole[1])), strict=True))
    return {**state, "step": int(saved["step"])}


def _numbers(group: dict[str, Any], step: int) -> tuple[float, ...]:
    beta1, beta2 = group["betas"]
    first, second = 1 - beta1**step, 1 - beta2**step
    shrink = 1 - group["lr"] * group["weight_decay"]
    return (beta1, beta2, group["lr"] / first, second**-0.5, group["eps"], shrink, beta2**0.5)


def grad_of(p: Tensor) -> Tensor:
    """The gradient of a parameter that has one."""
    return p.grad if p.grad is not None else torch.zeros_like(p)


def _run_native(kernel: Any, params: list[Tensor], states: list[dict[str, Any]], settings: Tensor) -> None:
    """Each parameter in place by the kernel in C; through a copy where it is not plain float32."""
    numbers, threads = ctypes.c_void_p(settings.data_ptr()), torch.get_num_threads()
    for p, state in zip(params, states, strict=True):
        weight = p.detach().to(torch.float32).contiguous()
        slope = grad_of(p).to(torch.float32).contiguous()
        held = (weight, slope, state["words"], state["scales1"], state["scales2"])
        places = [ctypes.c_void_p(tensor.data_ptr()) for tensor in held]
        kernel(ctypes.c_int64(p.numel()), *places, numbers, threads)
        if weight.data_ptr() != p.data_ptr():
            p.copy_(weight)
        else:
            increment_version(p)


def _run_together(pieces: list[Piece], settings: Tensor, *, eager: bool) -> None:
    """Copied into one tensor, each to whole blocks, stepped, and copied back: few calls for many tensors."""
    if not pieces:
        return
    parts: list[list[Tensor]] = [[], []]
    for flat, slope, _ in pieces:
        pad = flat.new_zeros(-len(flat) % BLOCK)
        for part, held in zip(parts, (flat, slope), strict=True):
            part += [held, pad] if len(pad) else [held]
    joined, slopes = (torch.cat(part) for part in parts)
    codes = [torch.cat([piece[2][k] for piece in pieces]) for k in range(3)]
    _run(joined, slopes, codes, settings, eager=eager)
    sizes = [-(-len(flat) // BLOCK) for flat, _, _ in pieces]
    starts = joined.split([size * BLOCK for size in sizes])
    torch._foreach_copy_(
        [p[0] for p in pieces], [s[: len(p[0])] for s, p in zip(starts, pieces, strict=True)]
    )
    for k in range(3):
        torch._foreach_copy_([piece[2][k] for piece in pieces], list(codes[k].split(sizes)))


def _run(flat: Tensor, slope: Tensor, codes: list[Tensor], settings: Tensor, *, eager: bool) -> None:
    """One step of n whole blocks, in place."""
    words, scale1, scale2 = codes
    eager = eager or len(words) == 1  # a compiler takes a length of one for a constant
    p, grad = _halves(flat), _halves(slope)
    part = EAGER if eager and flat.device.type == "cpu" else len(words)
    for k in range(0, len(words), part):
        w, g = ((halves[0][k : k + part], halves[1][k : k + part]) for halves in (p, grad))
        _step(w, g, *(code[k : k + part] for code in codes), settings, eager=eager)


def _halves(flat: Tensor) -> Halves:
    """Views (n, HALF) of the two halves of each block."""
    blocks = flat.view(-1, 2, HALF)
    return blocks[:, 0], blocks[:, 1]


def _adamw(p: Halves, grad: Halves, words: Tensor, scale1: Tensor, scale2: Tensor, settings: Tensor) -> None:
    """One AdamW step of n blocks, in place."""
    for half in (*grad, words):
        torch._check(half.shape[1] == HALF)  # the compiler then knows the length of the inner loop
    beta1, beta2, rate, correction, eps, shrink, beta2_root = settings.unbind()
    first, second = decode(words, scale1 * beta1, scale2 * beta2_root)
    slopes = [half.to(torch.float32) for half in grad]
    m = [m + (1 - beta1) * g for m, g in zip(first, slopes, strict=True)]
    v = [v + (1 - beta2) * (g * g) for v, g in zip(second, slopes, strict=True)]
    new1, new2 = scales_of((m[0], m[1]), (v[0], v[1]))
    over1, over2 = per_scale(new1, new2)
    roots = v[0].sqrt(), v[1].sqrt()
    for w, m_, root in zip(p, m, roots, strict=True):
        step = rate * m_ / (root * correction + eps)
        w.copy_(w.to(torch.promote_types(w.dtype, torch.float32)) * shrink - step)
    words.copy_(pack((m[0], m[1]), roots, over1, over2))
    scale1.copy_(new1)
    scale2.copy_(new2)


_step = compiled(_adamw, in_one_loop=True)


def _plain(params: list[Tensor], states: list[dict[str, Any]], numbers: tuple[float, ...]) -> None:
    beta1, beta2, rate, correction, eps, shrink, _ = numbers
    first, second = [s["moment1"] for s in states], [s["moment2"] for s in states]
    grads = [grad_of(p).to(m.dtype) for p, m in zip(params, first, strict=True)]
    torch._foreach_lerp_(first, grads, 1 - beta1)
    torch._foreach_mul_(second, beta2)
    torch._foreach_addcmul_(second, grads, grads, value=1 - beta2)
    below = torch._foreach_sqrt(second)
    torch._foreach_mul_(below, correction)
    torch._foreach_add_(below, eps)
    moves = torch._foreach_div(first, below)
    torch._foreach_mul_(moves, rate)
    torch._foreach_mul_(params, shrink)
    torch._foreach_sub_(params, [move.to(p.dtype) for move, p in zip(moves, params, strict=True)])
