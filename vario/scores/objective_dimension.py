r"""In how many random directions training must be free to do nearly as well: the objective's dimension.

.. math:: \theta = \theta_0 + P z, \qquad P \in \mathbb{R}^{D \times d} \text{ random}, \qquad
    d_{90} = \min \{d : \text{score}(d) \ge 0.9 \, \text{score}(D)\}

``Subspace`` holds the weights of an optimizer there; ``smallest_dimension`` looks for the dimension with few
runs. d numbers and a seed then stand for the weights: D / d is a compression.

When to use: how hard a task is for a model, independent of its size; whether fewer parameters would do.

When not to: noisy scores: the search trusts every run.

>>> smallest_dimension(lambda d: float(d >= 37), target=0.9, most=1000, within=0).high
37
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.fft import dct, idct
from torch import Tensor
from torch.optim.optimizer import Optimizer

__all__ = ["smallest_dimension", "Found", "Subspace"]

CARD = {
    "papers": ("P118",),
    "slot": "score",
    "treats": (),
    "example": {},
    "cost": "about ten runs of the script; two fast transforms of all weights at each step",
    "checked": "closed form: a quadratic with k directions gives k; equation: training z itself, by SGD",
    "changed": "P is d rows of a cosine transform after random signs and a shuffle: exactly orthonormal, "
    "never formed. Any optimizer is used as it is and its step is projected; for SGD that is training z, for "
    "others it is their step nearest in the space",
    "shown": "not shown here: the paper's 750 for MNIST",
}


class Found(NamedTuple):
    """The dimension lies above ``low``, which failed, and not above ``high``, which did not."""

    low: int
    high: int | None  # None: not even ``most`` was enough
    tried: tuple[tuple[int, float], ...]


def smallest_dimension(
    score: Callable[[int], float], *, target: float, most: int, first: int = 8, within: float = 0.1
) -> Found:
    """The smallest d with ``score(d) >= target``, to a share ``within``: doubling first, then halving."""
    tried: list[tuple[int, float]] = []
    low, high, d = 0, None, min(first, most)
    while True:
        value = float(score(d))
        tried.append((d, value))
        if value >= target:
            high = d
        else:
            low = d
        if high is None and low >= most:
            break
        if high is not None and high - low <= max(1.0, within * high):
            break
        if high is None:
            d = min(2 * low, most)
        else:
            d = round((low * high) ** 0.5) if low > 0 else high // 2
            d = min(max(d, low + 1), high - 1)
    return Found(low, high, tuple(tried))


class Subspace:
    """After each step of an optimizer, its weights are put back on the start plus ``dimension`` directions.

    ``before_step`` and ``after_step`` are hooks for the optimizer. Each optimizer has a space of its own.
    """

    def __init__(self, dimension: int, *, seed: int = 0) -> None:
        if dimension < 1:
            raise ValueError(f"a space of {dimension} directions: at least 1 is needed.")
        self.dimension, self.seed = dimension, seed
        self._start: dict[int, list[tuple[Tensor, Tensor]]] = {}
        self._bases: dict[int, _Basis] = {}

    def before_step(self, optimizer: Optimizer, *_: Any) -> None:
        """At the first step: where the weights start."""
        if id(optimizer) not in self._start:
            params = [p for group in optimizer.param_groups for p in group["params"] if p.requires_grad]
            self._start[id(optimizer)] = [(p, p.detach().clone()) for p in params]
            size = sum(p.numel() for p in params)
            self._bases[id(optimizer)] = _Basis(size, min(self.dimension, size), self.seed)

    @torch.no_grad()
    def after_step(self, optimizer: Optimizer, *_: Any) -> None:
        """The weights move to the nearest point of the space."""
        start = self._start[id(optimizer)]
        moved = np.concatenate([(p - p0).double().cpu().numpy().ravel() for p, p0 in start])
        parts = torch.from_numpy(self._bases[id(optimizer)].project(moved))
        sizes = [p.numel() for p, _ in start]
        for (p, p0), part in zip(start, torch.split(parts, sizes), strict=True):
            p.copy_((p0.double().cpu() + part.view_as(p)).to(p))


class _Basis:
    """Orthonormal rows of a shuffled, signed cosine transform."""

    def __init__(self, size: int, dimension: int, seed: int) -> None:
        draw = np.random.default_rng(seed)
        self._signs = draw.choice((-1.0, 1.0), size)
        self._order = draw.permutation(size)
        self._rows = draw.permutation(size)[:dimension]

    def coordinates(self, vector: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(dct(self._signs * vector[self._order], norm="ortho"))[self._rows]

    def vector(self, coordinates: NDArray[np.float64]) -> NDArray[np.float64]:
        spread = np.zeros(len(self._signs))
        spread[self._rows] = coordinates
        found = np.empty_like(spread)
        found[self._order] = self._signs * np.asarray(idct(spread, norm="ortho"))
        return found

    def project(self, vector: NDArray[np.float64]) -> NDArray[np.float64]:
        return self.vector(self.coordinates(vector))
