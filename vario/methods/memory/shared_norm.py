r"""LayerNorm and RMSNorm that keep one tensor together with the linear layers behind them, instead of two.

.. math:: y = \frac{x - \mu}{\sigma}, \qquad W' = W \,\mathrm{diag}(\gamma), \quad b' = b + W \beta

The gain and shift move into the linear layers that read the norm. Its output y is then what the linear layer
saves anyway, and the norm's backward pass needs nothing but y and 1 / sigma.

When to use: fine-tuning of transformers where activations fill the memory.

When not to: the gain and shift must be trained or decayed apart from the weights; something else reads the
norm's output too.

>>> norm, linear = torch.nn.LayerNorm(4), torch.nn.Linear(4, 2)
>>> _ = torch.nn.init.constant_(norm.weight, 3.0); x = torch.randn(5, 4)
>>> before = linear(norm(x)); shared = SharedNorm.from_existing(norm, linear)
>>> torch.allclose(linear(shared(x)), before, atol=1e-5)
True
>>> shared.undo(); torch.allclose(linear(norm(x)), before)
True
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["SharedNorm"]

CARD = {
    "papers": ("P158",),
    "slot": "layer",
    "treats": (),
    "example": {"features": 8},
    "cost": "the norm saves 4 bytes per row; its input is not kept",
    "checked": "equation: LayerNorm and RMSNorm of torch, values and gradients; authors' code "
    "yyyyychen/LowMemoryBP bb2980f, read (Apache-2.0)",
    "changed": "nothing; the merge can be undone",
    "shown": "norm and linear layer save one activation where torch's save two",
}


class SharedNorm(nn.Module):
    """Normalization over the last dimension without gain and shift; ``center=False`` is RMSNorm."""

    def __init__(self, features: int, *, eps: float = 1e-5, center: bool = True) -> None:
        super().__init__()
        self.features, self.eps, self.center = features, eps, center
        self._merged: list[tuple[nn.Linear, Tensor, Tensor | None]] = []

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[-1] != self.features:
            raise ValueError(f"SharedNorm({self.features}): the input has {x.shape[-1]} features.")
        out, _ = _Normalize.apply(x, self.eps, self.center)
        return out  # type: ignore[no-any-return]

    @classmethod
    def from_existing(cls, norm: nn.LayerNorm | nn.RMSNorm, *readers: nn.Linear) -> SharedNorm:
        """Merge the norm's gain and shift into all ``readers``, in place; put what is returned where it "
        "was."""
        shape = norm.normalized_shape
        if len(shape) != 1 or not readers:
            raise ValueError(
                f"SharedNorm wants a norm over one dimension and the linear layers that read it; got shape "
                f"{tuple(shape)} and {len(readers)} layers."
            )
        for reader in readers:
            if not isinstance(reader, nn.Linear) or reader.in_features != shape[0]:
                raise ValueError(f"SharedNorm: {reader!r} does not read the {shape[0]} features of the norm.")
        if len({id(reader.weight) for reader in readers}) < len(readers):
            raise ValueError(
                "SharedNorm: two of the layers are one or share a weight; name each weight once."
            )
        shift = norm.bias if isinstance(norm, nn.LayerNorm) else None
        if shift is not None and any(reader.bias is None for reader in readers):
            raise ValueError("SharedNorm: the norm has a shift, and a linear layer has no bias to take it.")
        eps = norm.eps
        if eps is None:
            eps = torch.finfo(readers[0].weight.dtype).eps
        made = cls(shape[0], eps=eps, center=isinstance(norm, nn.LayerNorm))
        with torch.no_grad():
            for reader in readers:
                old = None if reader.bias is None else reader.bias.clone()
                made._merged.append((reader, reader.weight.clone(), old))
                if shift is not None:
                    reader.bias.add_(reader.weight @ shift)
                if norm.weight is not None:
                    reader.weight.mul_(norm.weight)  # (out, in) * (in,)
        return made

    def undo(self) -> None:
        """Put the weights and biases back that the merge changed; training since then is lost."""
        with torch.no_grad():
            for reader, weight, bias in self._merged:
                reader.weight.copy_(weight)
                if bias is not None:
                    reader.bias.copy_(bias)
        self._merged = []

    def extra_repr(self) -> str:
        return f"{self.features}, eps={self.eps}, center={self.center}"


class _Normalize(torch.autograd.Function):
    """y and 1 / sigma: what is saved must be given out, or second derivatives would miss what flows by it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, eps: float, center: bool) -> tuple[Tensor, Tensor]:
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        if center:
            wide = wide - wide.mean(-1, keepdim=True)
        inverse = (wide.square().mean(-1, keepdim=True) + eps).rsqrt()  # (..., 1)
        y = (wide * inverse).to(x.dtype)
        ctx.center = center
        ctx.save_for_backward(y, inverse)
        ctx.set_materialize_grads(False)
        return y, inverse

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None, of_inverse: Tensor | None) -> tuple[Tensor, None, None]:
        y, inverse = ctx.saved_tensors
        grad = torch.zeros_like(y) if grad is None else grad
        g = grad.to(inverse.dtype)
        along = (g * y).mean(-1, keepdim=True)
        inner = g - y * along
        if ctx.center:
            inner = inner - g.mean(-1, keepdim=True)
        if of_inverse is not None:  # only in a second derivative
            inner = inner - of_inverse * inverse * y / y.shape[-1]
        return (inner * inverse).to(grad.dtype), None, None
