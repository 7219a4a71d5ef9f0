"""Whether single examples pull against each other: cosines between their gradients, pair by pair.

From the inner products of the gradients of some examples of the batch. With labels, the mean cosine of pairs
of one class and of pairs of two. ``directions`` is the squared trace over the squared norm of the inner
products: 1 where all gradients lie on one line, the number of examples where each has its own direction.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from vario.capture.moment import Moment
from vario.nouns import Reading

CARD = {
    "papers": ("P033",),
    "cost": "on demand: inner products of the gradients of an eighth of the batch's examples",
    "checked": "closed form: a linear model, whose gradients are its inputs; torch.func on a small CNN",
    "changed": "P033 gives one number, coherence (see gradient-noise); these say where it is lost",
}


@dataclass(frozen=True)
class ExampleConflict:
    """Of at least ``fewest`` examples, where ``least`` of the gradient's squared norm is seen."""

    name: str = "example-conflict"
    needs: frozenset[str] = frozenset({"example_gram"})
    fewest: int = 4
    least: float = 0.5

    def read(self, moment: Moment) -> Iterator[Reading]:
        if "example_gram" not in moment:
            return
        found = moment["example_gram"]
        gram, lengths = found.products, np.sqrt(found.products.diagonal())
        if len(gram) < self.fewest or found.seen < self.least or not np.isfinite(gram).all():
            return
        some = np.flatnonzero(lengths > 0)  # an example without a gradient has no direction
        if len(some) < 2:
            return
        gram = gram[np.ix_(some, some)]
        one, other = np.triu_indices(len(some), 1)
        cosines = gram[one, other] / (lengths[some][one] * lengths[some][other])
        yield moment.reading("example_conflict/cosines", np.quantile(cosines, np.linspace(0, 1, 11)).tolist())
        yield moment.reading("example_conflict/against_share", float((cosines < 0).mean()))
        yield moment.reading(
            "example_conflict/directions", float(np.trace(gram) ** 2 / np.square(gram).sum())
        )
        if found.labels is not None:
            same = found.labels[some][one] == found.labels[some][other]
            for name, pairs in (("same_class", same), ("other_class", ~same)):
                if pairs.any():
                    yield moment.reading(f"example_conflict/{name}", float(cosines[pairs].mean()))
