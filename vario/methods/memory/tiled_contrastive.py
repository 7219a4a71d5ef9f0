r"""Contrastive loss whose matrix of similarities never exists as a whole.

.. math:: L = -\frac1{2b} \sum_i \left(2 S_{ii} - \log\sum_j e^{S_{ij}} - \log\sum_j e^{S_{ji}}\right),
    \qquad S = s\, I T^\top

The forward pass walks over tiles of S and keeps running logarithms of the sums of its rows and columns; the
backward pass computes the tiles again. Memory is O(b d + tile^2) instead of O(b^2). Over several processes
the texts go round in a ring, with the sums of their columns, and in the backward pass with their gradients:
no process ever holds the features of more than two.

When to use: CLIP-like training where the batch is limited by the b x b matrix.

When not to: small batches: a tile that holds everything is the plain loss, a little slower; or second
derivatives are taken: they need the whole matrix.

>>> loss = TiledContrastiveLoss(tile=2)
>>> round(loss(torch.eye(3), torch.eye(3), torch.tensor(10.0)).item(), 6)  # log(1 + 2 exp(-10))
9.1e-05
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

__all__ = ["TiledContrastiveLoss"]

CARD = {
    "papers": ("P209",),
    "slot": "loss",
    "treats": (),
    "example": {"tile": 4},
    "cost": "one more product of the features in the backward pass",
    "checked": "equation: the dense loss, values and gradients, also in rings of 2 and 3 gloo processes; "
    "authors' code DAMO-NLP-SG/Inf-CLIP d9f2833, read (Apache-2.0; CUDA only)",
    "changed": "the ring passes texts only, and waits for them: sending is not hidden behind computing. "
    "Similarities are float32 at least, also of half precision and under autocast. Second derivatives take "
    "the whole matrix, in one process",
    "shown": "batch 16,384: 2.0 % of the peak memory of the dense loss; at 4,096 0.73 x its processor time",
}


class TiledContrastiveLoss(nn.Module):
    """``forward(images (b, d), texts (b, d), scale)``: symmetric cross entropy, a scalar.

    Features come normalized where the method wants that; ``scale`` is 1 / temperature, a number or a tensor
    that is trained. With a ``group`` (``torch.distributed.group.WORLD``) each of its processes gives as many
    rows, all get the loss of all rows, and gradients such that their mean over the processes is its gradient,
    as DistributedDataParallel takes it. Without one the rows of this process are all.
    """

    def __init__(self, *, tile: int = 1024, group: dist.ProcessGroup | None = None) -> None:
        super().__init__()
        if tile < 1:
            raise ValueError(f"TiledContrastiveLoss: tile is {tile}; it is a number of rows.")
        self.tile, self.group = tile, group

    def forward(self, images: Tensor, texts: Tensor, scale: Tensor | float = 1.0) -> Tensor:
        if images.ndim != 2 or images.shape != texts.shape:
            raise ValueError(
                f"TiledContrastiveLoss wants two sets of features (b, d); got {tuple(images.shape)} and "
                f"{tuple(texts.shape)}."
            )
        wide = torch.promote_types(images.dtype, torch.float32)
        factor = torch.as_tensor(scale, dtype=wide, device=images.device)
        with torch.autocast(images.device.type, enabled=False):  # both passes must see the same similarities
            out: Tensor = _Tiled.apply(images, texts, factor, self.tile, _Ring(self.group, images))
        return out if torch.is_autocast_enabled(images.device.type) else out.to(images.dtype)


class _Ring:
    """The processes of a group in a circle; without a group this one alone."""

    def __init__(self, group: dist.ProcessGroup | None, rows: Tensor) -> None:
        self.group, self.size = group, 1 if group is None else group.size()
        if group is None or self.size == 1:
            return
        rank = group.rank()
        self.ahead, self.behind = (dist.get_global_rank(group, (rank + k) % self.size) for k in (1, -1))
        most = rows.new_tensor([len(rows), -len(rows)], dtype=torch.int64)
        dist.all_reduce(most, dist.ReduceOp.MAX, group)
        if most.sum():
            raise ValueError(
                f"TiledContrastiveLoss: the processes have {-int(most[1])} to {int(most[0])} rows; all must "
                f"have as many. DataLoader(drop_last=True) sees to it."
            )

    def pass_on(self, *held: Tensor) -> tuple[Tensor, ...]:
        """Gives these to the process ahead and returns those of the one behind."""
        if self.size == 1:
            return held
        given, taken = [t.contiguous() for t in held], [torch.empty_like(t) for t in held]
        sends = [dist.P2POp(dist.isend, t, self.ahead, self.group) for t in given]
        receives = [dist.P2POp(dist.irecv, t, self.behind, self.group) for t in taken]
        for work in dist.batch_isend_irecv(sends + receives):
            work.wait()
        return tuple(taken)

    def mean(self, value: Tensor) -> Tensor:
        if self.size > 1:
            dist.all_reduce(value, group=self.group)
        return value / self.size


class _Tiled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, images: Tensor, texts: Tensor, scale: Tensor, tile: int, ring: _Ring) -> Tensor:
        b = len(images)
        rows = scale.new_full((b,), -torch.inf)  # running log-sum-exp
        columns, guests = rows.clone(), texts
        for _ in range(ring.size):
            for i, j in _tiles(b, tile):
                s = scale * _product(images[i], guests[j], scale.dtype)
                rows[i] = torch.logaddexp(rows[i], s.logsumexp(1))
                columns[j] = torch.logaddexp(columns[j], s.logsumexp(0))
            guests, columns = ring.pass_on(guests, columns)
        ctx.save_for_backward(images, texts, scale, rows, columns)
        ctx.tile, ctx.ring = tile, ring
        right = scale * torch.linalg.vecdot(images.to(scale.dtype), texts.to(scale.dtype))
        return ring.mean((rows + columns - 2 * right).sum() / (2 * max(b, 1)))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        images, texts, scale, rows, columns = ctx.saved_tensors
        if torch.is_grad_enabled():  # what is made here will be differentiated again
            if ctx.ring.size > 1:
                raise RuntimeError(
                    "TiledContrastiveLoss: over several processes it has first derivatives only."
                )
            wanted = [
                t for t, need in zip((images, texts, scale), ctx.needs_input_grad, strict=False) if need
            ]
            found = iter(torch.autograd.grad(_dense(images, texts, scale), wanted, grad, create_graph=True))
            return tuple(next(found) if need else None for need in ctx.needs_input_grad)
        wide = scale.dtype
        d_images, d_guests = torch.zeros_like(images, dtype=wide), torch.zeros_like(texts, dtype=wide)
        d_scale, guests = torch.zeros_like(scale), texts
        b = len(images)
        for hop in range(ctx.ring.size):
            for i, j in _tiles(b, ctx.tile):
                product = _product(images[i], guests[j], wide)
                weight = (scale * product - rows[i, None]).exp_()
                weight += (scale * product - columns[None, j]).exp_()
                if hop == 0 and i.start == j.start:  # pairs are at home
                    weight.diagonal().sub_(2)
                d_images[i] += weight @ guests[j].to(wide)
                d_guests[j] += weight.T @ images[i].to(wide)
                d_scale += torch.linalg.vecdot(weight.flatten(), product.flatten())
            guests, columns, d_guests = ctx.ring.pass_on(guests, columns, d_guests)
        share = grad / (2 * max(b, 1))
        along = share * scale
        d_images, d_texts = (d_images * along).to(images.dtype), (d_guests * along).to(texts.dtype)
        return d_images, d_texts, d_scale * share, None, None


def _dense(images: Tensor, texts: Tensor, scale: Tensor) -> Tensor:
    s = scale * _product(images, texts, scale.dtype)
    return (s.logsumexp(1) + s.logsumexp(0) - 2 * s.diagonal()).sum() / (2 * max(len(s), 1))


def _product(rows: Tensor, columns: Tensor, dtype: torch.dtype) -> Tensor:
    return rows.to(dtype) @ columns.to(dtype).T


def _tiles(count: int, tile: int) -> Iterator[tuple[slice, slice]]:
    parts = [slice(start, min(start + tile, count)) for start in range(0, count, tile)]
    return ((i, j) for i in parts for j in parts)
