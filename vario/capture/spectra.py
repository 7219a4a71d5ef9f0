"""Singular values of the matrices of a step: of gradients, of weights, of what layers give out.

One decomposition serves every quantity. Where the shorter side is at most ``EXACT``, all values come from
the eigenvalues of the small Gram matrix in double precision; those of one size are decomposed together, after
one wait for all. For longer ones the largest ``SKETCH`` come from a randomised range, and sums over the
others from stochastic Lanczos quadrature of what the range leaves: they carry a standard error, and ``exact``
is False.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from vario.capture.losses import host_values
from vario.capture.needs import Activation

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

__all__ = ["EXACT", "FEW_ROWS", "Spectrum", "matrix_of", "of_activations", "of_matrices", "spectrum"]

EXACT = 768  # of the shorter side: beyond it all values cost more than a training step
SKETCH = 48
ROWS = 4096  # of a layer's output that are looked at
FEW_ROWS = 256  # where it must be quick: the small Gram matrix then has at most this side
TOGETHER = 4_000_000  # entries of Gram matrices at once: 32 MB
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
    matrices: dict[str, Tensor] = {}
    for name, tensor in zip(names, tensors, strict=True):
        matrix = None if tensor is None else matrix_of(tensor)
        if matrix is not None:
            matrices.setdefault(name, matrix)
    return _of_all(matrices)


def of_activations(found: Sequence[Activation], most: int = ROWS) -> dict[str, Spectrum]:
    """Of the last output at each place, with channels as columns and all else as rows, ``most`` at most.

    Gates and shares (of sigmoid and softmax) are no representation: they are all much alike.
    """
    outputs: dict[str, Tensor] = {}
    for one in reversed(found):
        value = one.value
        if one.where in outputs or one.kind in ("sigmoid", "softmax") or value.ndim < 2:
            continue
        if not value.is_floating_point() or not value.numel():
            continue
        rows = value.detach().movedim(one.channel_dim, -1)
        count = math.prod(rows.shape[:-1])
        if count > most:  # picked before they are laid out, which copies them
            picked = torch.linspace(0, count - 1, most, dtype=torch.float64, device=rows.device).long()
            rows = rows[torch.unravel_index(picked, rows.shape[:-1])]
        rows = rows.flatten(0, -2)
        if min(rows.shape) > 1:
            outputs[one.where] = rows
    return _of_all(dict(reversed(outputs.items())))


def spectrum(matrix: Tensor, *, exact: int = EXACT, sketch: int = SKETCH, seed: int = 0) -> Spectrum | None:
    """Of a matrix (m, n); None where it is zero or not finite."""
    return _of_all({"": matrix}, exact=exact, sketch=sketch, seed=seed).get("")


def _of_all(
    matrices: dict[str, Tensor], *, exact: int = EXACT, sketch: int = SKETCH, seed: int = 0
) -> dict[str, Spectrum]:
    """Of each matrix that is finite and not zero."""
    talls = {name: _tall(matrix) for name, matrix in matrices.items()}
    sizes = dict(
        zip(talls, host_values([torch.linalg.vector_norm(tall) for tall in talls.values()]), strict=True)
    )
    talls = {name: tall for name, tall in talls.items() if 0 < sizes[name] < math.inf}
    found = {
        name: _sketched(tall / sizes[name], sizes[name], sketch, seed)
        for name, tall in talls.items()
        if tall.shape[1] > exact
    }
    alike: dict[tuple[int, torch.device], list[str]] = {}
    for name, tall in talls.items():
        if tall.shape[1] <= exact:
            alike.setdefault((tall.shape[1], tall.device), []).append(name)
    for (width, _), names in alike.items():
        step = max(1, TOGETHER // width**2)
        for some in (names[first : first + step] for first in range(0, len(names), step)):
            grams = torch.stack([_gram(talls[name] / sizes[name]) for name in some])
            for name, squares in zip(some, torch.linalg.eigvalsh(grams).cpu().double().numpy(), strict=True):
                found[name] = _exact(np.sqrt(np.clip(squares, 0, None)), sizes[name])
    return {name: found[name] for name in talls}


def _tall(matrix: Tensor) -> Tensor:
    tall = matrix.detach() if matrix.shape[0] >= matrix.shape[1] else matrix.detach().T
    return tall.float() if tall.dtype != torch.float64 else tall


def _gram(tall: Tensor) -> Tensor:
    """Of a matrix whose squares sum to 1, so that those of tiny entries do not vanish."""
    whole = tall if tall.device.type == "mps" else tall.double()
    return whole.T @ whole


def _exact(values: Array, size: float) -> Spectrum:
    width = len(values)
    values = values[values > TINY * values.max()]
    nuclear = float(values.sum())
    return Spectrum(float(values.max()) * size, size**2, nuclear * size, _entropy(values, nuclear), width)


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
