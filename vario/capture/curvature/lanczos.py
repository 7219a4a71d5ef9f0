"""Eigenvalues and spectral density of a symmetric matrix that is known only by its products with vectors.

After k products Lanczos gives k Ritz values; the largest is never above the largest eigenvalue, and within
``residual`` of each Ritz value lies an eigenvalue. The same k products from random starts give the
spectral density (stochastic Lanczos quadrature), and the trace of any function of the matrix.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

__all__ = [
    "FEWEST",
    "FEWEST_WARM",
    "Density",
    "Pair",
    "Product",
    "Tridiagonal",
    "density",
    "lanczos",
    "largest",
    "random_start",
]

Product = Callable[[Tensor], Tensor]  # what it gives is a new vector, and is written over
FEWEST = 8  # before an end is believed: with 7, one that the start hardly holds is missed at times
FEWEST_WARM = 6  # where it begins near one: with 4 it stays at a neighbour that the top has passed
_BREAKDOWN = 1e-7  # of the matrix's size: below it the next direction is rounding


@dataclass(frozen=True, slots=True)
class Tridiagonal:
    """``values`` are Ritz values, rising; ``residuals`` their error bounds; ``first`` the squared first
    entries of their vectors (the weights of the quadrature)."""

    values: Array
    residuals: Array
    first: Array
    vectors: Array  # (k, k), in the basis
    basis: list[Tensor]  # (n,) each; empty where none was kept


@dataclass(frozen=True, slots=True)
class Pair:
    """An eigenvalue that lies within ``error`` of ``value``; ``vector`` (n,) has length 1."""

    value: float
    error: float
    vector: Tensor
    products: int


@dataclass(frozen=True, slots=True)
class Density:
    """Eigenvalues and their shares of the dimension, one row of nodes and weights for each start."""

    nodes: Array  # (starts, k)
    weights: Array  # (starts, k); each row sums to 1
    size: int

    def trace(self, function: Callable[[Array], Array]) -> tuple[float, float]:
        """Trace of ``function`` of the matrix, and the standard error over starts (nan with one start)."""
        each = self.size * (self.weights * function(self.nodes)).sum(axis=1)
        spread = float(each.std(ddof=1) / np.sqrt(len(each))) if len(each) > 1 else float("nan")
        return float(each.mean()), spread

    def share_above(self, level: float) -> float:
        """Share of the eigenvalues above ``level``."""
        return float((self.weights * (self.nodes > level)).sum() / len(self.nodes))

    def quantiles(self, shares: Array) -> Array:
        """Eigenvalues below which these shares of all lie."""
        order = np.argsort(self.nodes, axis=None)
        up_to = np.cumsum(self.weights.ravel()[order]) / len(self.nodes)
        place = np.searchsorted(up_to, np.asarray(shares) * up_to[-1])
        return np.asarray(self.nodes.ravel()[order][np.minimum(place, len(order) - 1)])


def random_start(like: Tensor, seed: int) -> Tensor:
    """A Gaussian vector from a generator of its own: the script's random numbers are not touched."""
    draw = torch.Generator("cpu").manual_seed(seed)
    return torch.randn(like.shape, generator=draw, dtype=torch.float32, device="cpu").to(like)


class _Run:
    """Lanczos under way: each ``step`` costs one product."""

    def __init__(self, product: Product, start: Tensor, *, keep: bool) -> None:
        length = _length(start)
        if not length > 0 or not np.isfinite(length):
            raise ArithmeticError("the starting vector is zero or not finite")
        self._product, self._keep = product, keep
        self._now, self._before = start / length, torch.zeros_like(start)
        self.alphas: list[float] = []
        self.betas: list[float] = []
        self.basis: list[Tensor] = []
        self._scale = 0.0

    def step(self) -> bool:
        """One product more; False where the space of the start is exhausted."""
        if self._keep:
            self.basis.append(self._now)
        image = self._product(self._now)
        alpha = _dot(self._now, image)
        image.add_(self._now, alpha=-alpha)  # it is ours: a vector more would cost as much as a dot product
        if self.betas:
            image.add_(self._before, alpha=-self.betas[-1])
        for _ in range(2 if self._keep else 0):
            for old in self.basis:
                image.add_(old, alpha=-_dot(old, image))
        beta = _length(image)
        if not (np.isfinite(alpha) and np.isfinite(beta)):
            raise ArithmeticError("a product with the matrix is not finite")
        self._scale = max(self._scale, abs(alpha), beta)
        over = beta <= _BREAKDOWN * self._scale or len(self.alphas) + 1 >= image.numel()
        self.alphas.append(alpha)
        self.betas.append(beta)
        if not over:
            self._before, self._now = self._now, image.div_(beta)
        return not over

    def result(self) -> Tridiagonal:
        off = self.betas[:-1]
        values, vectors = np.linalg.eigh(np.diag(self.alphas) + np.diag(off, 1) + np.diag(off, -1))
        return Tridiagonal(values, self.betas[-1] * np.abs(vectors[-1]), vectors[0] ** 2, vectors, self.basis)


def lanczos(product: Product, start: Tensor, *, steps: int, keep: bool = True) -> Tridiagonal:
    """At most ``steps`` products from ``start`` (n,). Raises ArithmeticError where one is not finite.

    ``keep`` keeps the basis and makes it orthogonal twice over; without it, ghosts of found eigenvalues may
    appear, which do no harm to the largest one.
    """
    run = _Run(product, start, keep=keep)
    for _ in range(steps):
        if not run.step():
            break
    return run.result()


def largest(
    product: Product,
    start: Tensor,
    *,
    within: float = 0.01,
    most: int = 40,
    fewest: int = FEWEST,
    least: bool = False,
) -> Pair:
    """The largest eigenvalue (``least``: the smallest), in at most ``most`` products.

    It stops when the squared residual over the gap to the next Ritz value, which is the error of the value
    near the end, is at most a share ``within`` of it, twice running and after ``fewest`` products: a start
    that hardly holds the vector first settles near another eigenvalue. What is returned as the error is the
    residual, which bounds the distance to an eigenvalue whatever the gap.
    """
    run = _Run(product, start, keep=True)
    place, other = (0, 1) if least else (-1, -2)
    settled = 0
    while True:
        more = run.step()
        found = run.result()
        value, residual = float(found.values[place]), float(found.residuals[place])
        gap = abs(value - float(found.values[other])) if len(found.values) > 1 else 0.0
        settled = settled + 1 if gap > 0 and residual**2 / gap <= within * abs(value) else 0
        count = len(found.values)
        if not more or count >= most or (settled > 1 and count >= fewest):
            break
    weights = found.vectors[:, place]
    vector = torch.zeros_like(start)
    for weight, direction in zip(weights, run.basis, strict=True):
        vector.add_(direction, alpha=float(weight))
    return Pair(value, residual, vector / _length(vector), len(found.values))


def density(product: Product, like: Tensor, *, starts: int = 4, steps: int = 24, seed: int = 0) -> Density:
    """Spectral density from ``starts`` random vectors of ``steps`` products each."""
    nodes, weights = np.zeros((starts, steps)), np.zeros((starts, steps))
    for number in range(starts):
        found = lanczos(product, random_start(like, seed + number), steps=steps)
        count = len(found.values)
        nodes[number, :count], weights[number, :count] = found.values, found.first
        nodes[number, count:] = found.values[-1]  # of weight 0
    return Density(nodes, weights, like.numel())


def _dot(one: Tensor, other: Tensor) -> float:
    return float(torch.dot(one, other))


def _length(vector: Tensor) -> float:
    return float(torch.linalg.vector_norm(vector))
