"""The largest eigenvalue that all data would have, from that of the batch and of its halves.

A batch's Hessian is the true one plus noise, which lifts its largest eigenvalue: by noise over eigenvalue
in the spiked model. The same noise turns its eigenvector away, so what the one half's matrix gives along
the other's eigenvector is too low by as much, and their middle is the true value. The lower and the upper
one bound it in the mean whatever the model of the noise.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from vario.capture.moment import Moment
from vario.nouns import Reading

CARD = {
    "papers": ("P017",),
    "cost": "about 20 products with the Hessian, each 1.5 to 3 steps; on demand",
    "checked": "closed form: spiked Wishart matrices",
    "changed": "the middle of the half's value and the crossed one stands for the paper's fit over several "
    "batch sizes; the halves are of one batch, whose examples must not depend on one another",
}


@dataclass(frozen=True)
class CurvatureBatch:
    """`batch_noise` is P s^2 of the model: the variance of a row of one example's Hessian."""

    name: str = "curvature-batch"
    needs: frozenset[str] = frozenset({"curvature_halves"})

    def read(self, moment: Moment) -> Iterator[Reading]:
        if "curvature_halves" not in moment:
            return
        found = moment["curvature_halves"]
        true = (found.half + found.crossed) / 2
        yield moment.reading("curvature/top_population", true)
        yield moment.reading("curvature/top_population_low", found.crossed)
        yield moment.reading("curvature/top_population_high", found.half)
        yield moment.reading("curvature/top_half", found.half)
        yield moment.reading("curvature/batch_noise", (found.half - true) * true * found.examples)
