"""Nuclear norm and stable rank of the gradient of every weight matrix.

The nuclear norm is the sum of the singular values: how large the gradient is over all its directions.
Large and uneven ones across layers go with data that the model finds foreign. The stable rank says how
many directions share the length: 1 means that all examples pull the same way.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from vario.capture.moment import Moment
from vario.nouns import Reading

CARD = {
    "papers": ("P001",),
    "cost": "one small eigenvalue problem for each matrix, a sketch where its shorter side is above 768; on "
    "demand",
    "checked": "equation: torch.linalg in float64",
    "changed": "large ones by a randomised range and Lanczos quadrature of the rest",
}


@dataclass(frozen=True)
class GradientSpectrum:
    """`unevenness` is the mean difference between neighbouring matrices, over the mean nuclear norm."""

    name: str = "gradient-spectrum"
    needs: frozenset[str] = frozenset({"gradient_spectra"})

    def read(self, moment: Moment) -> Iterator[Reading]:
        if "gradient_spectra" not in moment:
            return
        found = moment["gradient_spectra"]
        for where, one in found.items():
            yield moment.reading("spectrum/gradient_nuclear", one.nuclear, where)
            yield moment.reading("spectrum/gradient_top_share", one.top / one.nuclear, where)
            yield moment.reading("spectrum/gradient_stable_rank", one.stable_rank, where)
        norms = [one.nuclear for one in found.values()]
        if norms:
            yield moment.reading("spectrum/gradient_nuclear", sum(norms))
        if len(norms) > 1:
            steps = [abs(after - before) for before, after in zip(norms, norms[1:], strict=False)]
            uneven = sum(steps) / len(steps) / (sum(norms) / len(norms))
            yield moment.reading("spectrum/gradient_unevenness", uneven)
