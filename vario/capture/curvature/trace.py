"""Trace and diagonal of a symmetric matrix that is known only by its products with vectors.

Hutchinson: the mean of v'Av over random signs v is the trace. Its spread comes from what lies off the
diagonal, so a few outlying eigenvalues make it useless; Hutch++ takes their part of the trace exactly, from a
basis of the matrix's range, and guesses only the rest. Both are unbiased. Their intervals are Student's: with
an outlier Hutchinson's draws are skewed, and 8 of them cover 91 % instead of 95; those of Hutch++ are not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Estimate", "hutch_pp", "hutchinson", "mean_of"]

Product = Callable[[Tensor], Tensor]
# two-sided 95 % of Student's t, by degrees of freedom; above them the normal's
_T95 = (12.71, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145)


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value and its 95 % interval; an interval without end where one draw says nothing of the spread."""

    value: float
    low: float
    high: float
    products: int = 0


def mean_of(draws: Sequence[float], *, offset: float = 0.0, products: int = 0) -> Estimate:
    """Mean of independent draws, plus a part that is known, with Student's interval."""
    count = len(draws)
    mean = math.fsum(draws) / count
    if count == 1:
        return Estimate(mean + offset, -math.inf, math.inf, products)
    spread = math.sqrt(math.fsum((draw - mean) ** 2 for draw in draws) / (count - 1) / count)
    t = _T95[count - 2] if count - 2 < len(_T95) else 1.96 + 2.6 / (count - 1)
    return Estimate(mean + offset, mean + offset - t * spread, mean + offset + t * spread, products)


def hutchinson(
    product: Product, like: Tensor, *, probes: int = 8, seed: int = 0
) -> tuple[Estimate, Tensor, Tensor]:
    """The trace; the diagonal (n,) and its standard error (n,), both from the same ``probes`` products."""
    draw = torch.Generator("cpu").manual_seed(seed)
    total, squares = torch.zeros_like(like), torch.zeros_like(like)
    traces = []
    for _ in range(probes):
        signs = _signs(like, draw)
        entries = signs * product(signs)
        traces.append(_finite(float(entries.sum())))
        total += entries
        squares += entries**2
    mean = total / probes
    spread = ((squares / probes - mean**2).clamp(min=0) / max(1, probes - 1)).sqrt()
    if probes == 1:
        spread = torch.full_like(spread, math.inf)
    return mean_of(traces, products=probes), mean, spread


def hutch_pp(product: Product, like: Tensor, *, products: int = 24, seed: int = 0) -> Estimate:
    """The trace from about ``products`` products: a third each for the range, its trace, and the rest."""
    third = max(1, min(products // 3, like.numel()))
    draw = torch.Generator("cpu").manual_seed(seed)
    images = torch.stack([product(_signs(like, draw)) for _ in range(third)], dim=1)  # (n, third)
    _finite(float(images.sum()))
    basis, _ = torch.linalg.qr(images)
    inside = sum(float(torch.dot(column, product(column))) for column in basis.T.contiguous())
    rest = []
    for _ in range(max(2, products - 2 * third)):
        signs = _signs(like, draw)
        outside = signs - basis @ (basis.T @ signs)
        rest.append(_finite(float(torch.dot(outside, product(outside)))))
    return mean_of(rest, offset=inside, products=2 * third + len(rest))


def _signs(like: Tensor, draw: torch.Generator) -> Tensor:
    return (torch.randint(0, 2, like.shape, generator=draw, device="cpu") * 2 - 1).to(like)


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise ArithmeticError("a product with the matrix is not finite")
    return value
