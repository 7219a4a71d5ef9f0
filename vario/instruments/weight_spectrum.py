"""Effective and stable rank, and the largest singular value, of every weight matrix.

The effective rank is the exponential of the entropy of the singular values over their sum: near the width
at the start, it falls as the matrix learns a few directions, and near 1 the layer passes one number on.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from vario.capture.moment import Moment
from vario.nouns import Reading

CARD = {
    "papers": ("P132",),
    "cost": "one small eigenvalue problem for each matrix, a sketch where its shorter side is above 768; on "
    "demand",
    "checked": "equation: torch.linalg in float64; closed form: k equal singular values",
    "changed": "P132's rank of representations, taken of weights",
}


@dataclass(frozen=True)
class WeightSpectrum:
    """After the step; silent for vectors."""

    name: str = "weight-spectrum"
    needs: frozenset[str] = frozenset({"weight_spectra"})

    def read(self, moment: Moment) -> Iterator[Reading]:
        if "weight_spectra" not in moment:
            return
        for where, one in moment["weight_spectra"].items():
            yield moment.reading("spectrum/weight_top", one.top, where)
            yield moment.reading("spectrum/weight_stable_rank", one.stable_rank, where)
            yield moment.reading("spectrum/weight_effective_rank", one.effective_rank, where)
