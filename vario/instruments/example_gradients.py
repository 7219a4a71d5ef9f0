"""How unequal the gradients of single examples are: their norms, and how much a few of them carry.

``even`` is (mean norm)^2 over the mean squared norm: what the second moment of the gradient would shrink to
if examples were drawn in proportion to their norms, the best that importance sampling can do. 1 says
that all examples pull equally hard, 1 / n that one does all.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from vario.capture.moment import Moment
from vario.nouns import Reading

CARD = {
    "papers": ("P010",),
    "cost": "the norms of an eighth of the batch's examples, from one backward",
    "checked": "closed form: a linear model, whose gradients are its inputs",
    "changed": "P010 bounds the norm by that of the last layer; here it is that of all that is understood",
}


@dataclass(frozen=True)
class ExampleGradients:
    """Deciles of the norms of the examples' gradients; of at least ``fewest`` examples."""

    name: str = "example-gradients"
    needs: frozenset[str] = frozenset({"example_norms"})
    fewest: int = 4

    def read(self, moment: Moment) -> Iterator[Reading]:
        if "example_norms" not in moment:
            return
        found = moment["example_norms"]
        squares = np.sum(list(found.squares.values()), axis=0) * found.examples**2
        if len(squares) < self.fewest or not np.isfinite(squares).all() or not squares.any():
            return
        norms = np.sqrt(squares)
        quantiles = np.quantile(norms, np.linspace(0, 1, 11)).tolist()
        yield moment.reading("example_gradients/norm_quantiles", quantiles)
        yield moment.reading("example_gradients/mean_norm", float(norms.mean()))
        yield moment.reading("example_gradients/even", float(norms.mean() ** 2 / squares.mean()))
        yield moment.reading("example_gradients/looked_at", len(squares))
