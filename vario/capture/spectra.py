"""Singular values of the matrices of a step: of gradients, of weights, of what layers give out.

One decomposition serves every quantity. Where the shorter side is at most ``EXACT``, all values come from
the eigenvalues of the small Gram matrix in double precision. For longer ones the largest ``SKETCH`` come
from a randomised range, and sums over the others from stochastic Lanczos quadrature of what the range leaves:
they carry a standard error, and ``exact`` is False.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from vario.capture.needs import Activation

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

__all__ = ["EXACT", "FEW_ROWS", "Spectrum", "matrix_of", "of_activations", "of_matrices", "spectrum"]

EXACT = 768  # of the shorter side: beyond it all values cost more than a training step
SKETCH = 48
ROWS = 4096  # of a layer's output that are looked at
FEW_ROWS = 256  # where it must be quick: the small Gram matrix then has at most this side
POWERS = 2  # of the matrix, to sharpen the range
TINY = 1e-9  # of the largest: below it the Gram matrix has only rounding


@dataclass(frozen=True, slots=True)
class Spectrum:
    """Sums over the singular values of one matrix; ``error``: standard error of the nuclear norm."""

    top: float
    squares: float  # sum of squares: the Frobenius norm, squared
    nuclear: float
    entropy: float  # of the values over their sum, in nats
    width: int  # how many there could be: the shorter side
    exact: bool = True
    error: float = 0.0

    @property
    def stable_rank(self) -> float:
        """Sum of squares over the largest square: how many directions carry the length."""
        return self.squares / self.top**2

    @property
    def effective_rank(self) -> float:
        """Exponential of the entropy: how many directions there are, weighted by their values."""
        return math.exp(self.entropy)


def matrix_of(tensor: Tensor) -> Tensor | None:
    """A weight as (outputs, inputs x kernel); None for vectors and what is not a dense real tensor."""
    if tensor.layout != torch.strided or tensor.device.type == "meta" or not tensor.is_floating_point():
        return None
    if tensor.ndim < 2 or min(tensor.shape[0], math.prod(tensor.shape[1:])) < 2:
        return None
    return tensor.detach().reshape(tensor.shape[0], -1)


def of_matrices(tensors: Sequence[Tensor | None], names: Sequence[str]) -> dict[str, Spectrum]:
    """Of each that is a finite matrix and not all zero."""
    found: dict[str, Spectrum] = {}
    for name, tensor in zip(names, tensors, strict=True):
        matrix = None if tensor is None else matrix_of(tensor)
        known = None if matrix is None or name in found else spectrum(matrix)
        if known is not None:
            found[name] = known
    return found


def of_activations(found: Sequence[Activation], most: int = ROWS) -> dict[str, Spectrum]:
    """Of the last output at each place, with channels as columns and all else as rows, ``most`` at most.

    Gates and shares (of sigmoid and softmax) are no representation: they are all much alike.
    """
    spectra: dict[str, Spectrum] = {}
    for one in reversed(found):
        value = one.value
        if one.where in spectra or one.kind in ("sigmoid", "softmax") or value.ndim < 2:
            continue
        if not value.is_floating_point() or not value.numel():
            continue
        rows = value.detach().movedim(one.channel_dim, -1)
        count = math.prod(rows.shape[:-1])
        if count > most:  # picked before they are laid out, which copies them
            picked = torch.linspace(0, count - 1, most, dtype=torch.float64, device=rows.device).long()
            rows = rows[torch.unravel_index(picked, rows.shape[:-1])]
        rows = rows.flatten(0, -2)
        known = spectrum(rows) if min(rows.shape) > 1 else None
        if known is not None:
            spectra[one.where] = known
    return dict(reversed(spectra.items()))


def spectrum(matrix: Tensor, *, exact: int = EXACT, sketch: int = SKETCH, seed: int = 0) -> Spectrum | None:
    """Of a matrix (m, n); None where it is zero or not finite."""
    tall = matrix.detach() if matrix.shape[0] >= matrix.shape[1] else matrix.detach().T
    width = tall.shape[1]
    size = float(torch.linalg.vector_norm(tall.float() if tall.dtype != torch.float64 else tall))
    if not size > 0 or not math.isfinite(size):
        return None
    tall = tall.float() if tall.dtype != torch.float64 else tall
    tall = tall / size  # so that squares of tiny entries do not vanish
    if width <= exact:
        whole = tall if tall.device.type == "mps" else tall.double()
        values = torch.linalg.eigvalsh(whole.T @ whole).clamp(min=0).sqrt().cpu().double().numpy()
        values = values[values > TINY * values.max()]
        nuclear = float(values.sum())
        return Spectrum(float(values.max()) * size, size**2, nuclear * size, _entropy(values, nuclear), width)
    return _sketched(tall, size, sketch, seed)


def _sketched(tall: Tensor, size: float, sketch: int, seed: int) -> Spectrum:
    from vario.capture.curvature.lanczos import density

    draw = torch.Generator("cpu").manual_seed(seed)
    count = min(sketch + 8, tall.shape[1])
    basis = torch.randn(tall.shape[1], count, generator=draw, device="cpu").to(tall)
    for _ in range(POWERS):
        basis, _ = torch.linalg.qr(tall.T @ (tall @ basis))
    image = tall @ basis  # (m, count)
    _, kept, right = torch.linalg.svd(image, full_matrices=False)
    top = kept.double().cpu().numpy()
    basis = basis @ right.T

    def rest(vector: Tensor) -> Tensor:
        outside = vector - basis @ (basis.T @ vector)
        product = tall.T @ (tall @ outside)
        left_over: Tensor = product - basis @ (basis.T @ product)
        return left_over

    left = max(0.0, 1.0 - float((top**2).sum()))
    if left < 1e-10:
        nuclear = float(top.sum())
        return Spectrum(
            float(top.max()) * size, size**2, nuclear * size, _entropy(top, nuclear), tall.shape[1], False
        )
    found = density(rest, tall[0], starts=6, steps=16, seed=seed + 1)
    squared, _ = found.trace(lambda x: np.clip(x, 0, None))
    scale = left / squared if squared > 0 else 1.0  # the sum of squares is known exactly
    small, error = found.trace(lambda x: np.sqrt(np.clip(x, 0, None)))
    logs, _ = found.trace(lambda x: _times_log(np.sqrt(np.clip(x, 0, None))))
    nuclear = float(top.sum()) + scale * small
    total = float(_times_log(top).sum()) + scale * logs  # sum of s log s
    entropy = math.log(nuclear) - total / nuclear
    return Spectrum(
        float(top.max()) * size, size**2, nuclear * size, entropy, tall.shape[1], False, scale * error * size
    )


def _times_log(values: Array) -> Array:
    return np.asarray(values * np.log(np.where(values > 0, values, 1.0)))


def _entropy(values: Array, total: float) -> float:
    shares = values / total
    return float(-(_times_log(shares)).sum())
