r"""How many directions data vary in around each example: the dimension of the surface that they lie on.

.. math::
    d(x)^{-1} = \frac{1}{k-1} \sum_{j<k} \log \frac{T_k(x)}{T_j(x)}, \quad T_j: \text{to neighbour } j

``data_dimension`` pools these over all examples, with a 95 % interval; ``two_nn`` is a second opinion from
the two nearest neighbours alone; ``label_sharpness`` is the largest change of the label per distance.
The error of a learner falls about like the number of examples to the power -1/d.

When to use: how much more data will help; whether a representation or an image set is simple or hard.

When not to: discrete features or many duplicates; dimensions above 20 or so are underestimated.

>>> line = torch.randn(400, 1, generator=torch.Generator().manual_seed(0)) * torch.tensor([[3.0, 4.0]])
>>> round(data_dimension(line).value, 1)
1.0
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["local_dimension", "Dimension", "data_dimension", "label_sharpness", "two_nn"]

CARD = {
    "papers": ("P142",),
    "slot": "score",
    "treats": (),
    "example": {},
    "cost": "distances between all pairs: n^2 * size",
    "checked": "closed form: Gaussians and curved surfaces of known dimension; scikit-dimension's MLE "
    "and TwoNN",
    "changed": "copies of an example are left out; the interval is that of blocks of examples, for the "
    "sampling alone and not for the bias of large dimensions",
    "shown": "Gaussians of 2, 5 and 10 dimensions in 50: within 10 %",
}
BLOCKS = 10
T95 = 2.262  # Student's, 9 degrees of freedom
CHUNK = 1 << 24  # distances that are held at a time


class Dimension(NamedTuple):
    """An estimate with its 95 % interval, from ``examples`` that differ from one another."""

    value: float
    low: float
    high: float
    examples: int


def local_dimension(points: Tensor, *, neighbours: int = 20) -> Tensor:
    """Scores (n,) of points (n, size); nan where ``neighbours`` examples are copies of it."""
    near = _neighbours(_floating(points, neighbours), neighbours)
    inverse = _inverse(near)
    return torch.where(inverse > 0, 1 / inverse, math.nan).to(torch.float32)


def data_dimension(points: Tensor, *, neighbours: int = 20) -> Dimension:
    """The maximum likelihood of all neighbourhoods together."""
    unique = torch.unique(_floating(points, neighbours), dim=0)
    _enough(unique, neighbours)
    inverse = _inverse(_neighbours(unique, neighbours))
    return _pooled([block.mean() for block in _shuffled(inverse).chunk(BLOCKS)], inverse.mean(), len(unique))


def two_nn(points: Tensor) -> Dimension:
    """From the ratio of the distances to the second and the first neighbour, the largest tenth left out."""
    unique = torch.unique(_floating(points, 2), dim=0)
    _enough(unique, 2)
    near = _neighbours(unique, 2)
    ratios = _shuffled((near[:, 1] / near[:, 0]).log())
    blocks = [_slope(block) for block in ratios.chunk(BLOCKS)]
    return _pooled(blocks, _slope(ratios), len(unique))


def label_sharpness(points: Tensor, labels: Tensor, *, pairs: int = 100_000, seed: int = 0) -> float:
    """Largest |y - y'| / |x - x'| over random pairs; labels of classes count as numbers, as in the paper."""
    flat = _floating(points, 1)
    draw = torch.Generator().manual_seed(seed)
    first = torch.randint(len(flat), (pairs,), generator=draw)
    other = (first + torch.randint(1, len(flat), (pairs,), generator=draw)) % len(flat)
    largest = 0.0
    for a, b in zip(torch.split(first, 8192), torch.split(other, 8192), strict=True):
        apart = torch.linalg.vector_norm(flat[a] - flat[b], dim=1)
        change = (labels[a].double() - labels[b].double()).abs().view(len(a), -1).sum(1)
        sharp = torch.where(apart > 0, change / apart, 0.0)
        largest = max(largest, float(sharp.max()))
    return largest


def _floating(points: Tensor, neighbours: int) -> Tensor:
    if points.ndim < 2 or not bool(torch.isfinite(points.double() if points.numel() else points).all()):
        raise ValueError(
            f"points are finite numbers (n, ...); got {tuple(points.shape)}. Leave out rows that are not."
        )
    if neighbours < 1:
        raise ValueError(f"neighbours is {neighbours}; at least 1 is needed.")
    return points.detach().double().flatten(1)


def _enough(unique: Tensor, neighbours: int) -> None:
    if len(unique) < max(2 * BLOCKS, neighbours + 1):
        raise ValueError(
            f"{len(unique)} different examples; {max(2 * BLOCKS, neighbours + 1)} are needed for "
            f"{neighbours} neighbours."
        )


def _neighbours(points: Tensor, count: int) -> Tensor:
    """Distances to the nearest ``count`` others, rising, (n, count)."""
    if len(points) <= count:
        raise ValueError(f"{len(points)} examples have no {count} neighbours each; take fewer neighbours.")
    found = []
    for chunk in torch.split(points, max(1, CHUNK // len(points))):
        # plain differences: the products of the quick way lose what tells near neighbours apart
        away = torch.cdist(chunk, points, compute_mode="donot_use_mm_for_euclid_dist")
        found.append(away.topk(count + 1, largest=False).values[:, 1:])
    return torch.cat(found)


def _inverse(near: Tensor) -> Tensor:
    """Mean of log T_k / T_j, (n,)."""
    inner = near[:, :-1].clamp(min=torch.finfo(near.dtype).tiny)
    mean: Tensor = (near[:, -1:] / inner).log().mean(1)
    return mean


def _slope(logs: Tensor) -> Tensor:
    """1 / d from -log(1 - F) = d log(ratio), through the origin."""
    rising = logs.sort().values[: max(2, int(0.9 * len(logs)))]
    rank = torch.arange(1, len(rising) + 1, dtype=logs.dtype)
    height = -torch.log1p(-rank / len(logs))
    return (rising * rising).sum() / (rising * height).sum()


def _shuffled(values: Tensor) -> Tensor:
    """`unique` sorts; blocks are to be alike."""
    return values[torch.randperm(len(values), generator=torch.Generator().manual_seed(0))]


def _pooled(blocks: Sequence[Tensor], inverse: Tensor, examples: int) -> Dimension:
    each = torch.stack(list(blocks))
    error = T95 * float(each.std()) / math.sqrt(len(each))
    low, middle = float(inverse) + error, float(inverse)
    high = middle - error
    if not middle > 0:
        raise ValueError("all neighbours are equally far: the points have no dimension that can be told.")
    return Dimension(1 / middle, 1 / low, 1 / high if high > 0 else math.inf, examples)
