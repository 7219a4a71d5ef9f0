r"""GraNd: the length of the gradient that one example gives.

.. math:: s(x) = \left\| \nabla_w \ell(f_w(x), y) \right\|_2

Averaged over several initializations. At the start of training it says which examples will matter.

When to use: as ``error_norm``, for any loss; to feed ``ImportanceSampler``.

When not to: models with BatchNorm in train mode, where one example has no gradient of its own.

>>> model = torch.nn.Linear(2, 1, bias=False); _ = torch.nn.init.zeros_(model.weight)
>>> x, y = torch.tensor([[3.0, 4.0], [0.0, 1.0]]), torch.tensor([[1.0], [1.0]])
>>> gradient_norm(model, torch.nn.functional.mse_loss, x, y).tolist()  # |2 (f - y) x|
[10.0, 2.0]
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

__all__ = ["gradient_norm"]

CARD = {
    "papers": ("P024", "P010"),
    "slot": "score",
    "treats": ("label-noise", "duplicate-examples", "outlier-examples"),
    "example": {},
    "cost": "one backward pass per example, batched; one copy of the gradients per example of a chunk",
    "checked": "equation: one backward pass per example",
    "changed": "nothing",
    "shown": "equal to per-example backward passes to 1e-5",
}


def gradient_norm(
    model: nn.Module, loss: Callable[[Tensor, Tensor], Tensor], x: Tensor, y: Tensor, *, chunk: int = 64
) -> Tensor:
    """Scores (n,) of inputs x (n, ...) with targets y (n, ...); ``loss`` is called on one example at a "
    "time."""
    held = {name: p.detach() for name, p in model.named_parameters()}
    trained = {name: held[name] for name, p in model.named_parameters() if p.requires_grad}
    rest = {**held, **{name: b.detach() for name, b in model.named_buffers()}}

    def one(weights: dict[str, Tensor], example: Tensor, target: Tensor) -> Tensor:
        output = torch.func.functional_call(model, {**rest, **weights}, (example[None],))
        return loss(output, target[None])

    each = torch.func.vmap(torch.func.grad(one), in_dims=(None, 0, 0), randomness="different")
    scores = []
    for xs, ys in zip(torch.split(x, chunk), torch.split(y, chunk), strict=True):
        grads = each(trained, xs, ys)
        scores.append(torch.stack([_lengths(g) for g in grads.values()], 1))  # (chunk, parameters)
    total: Tensor = torch.linalg.vector_norm(torch.cat(scores), dim=1)
    return total


def _lengths(gradients: Tensor) -> Tensor:
    """Of gradients (n, ...) of one parameter, which may be a single number; summed in float32 at least."""
    rows = gradients[:, None].flatten(1)
    wide = torch.promote_types(rows.dtype, torch.float32)
    lengths: Tensor = torch.linalg.vector_norm(rows, dim=1, dtype=wide)
    return lengths
