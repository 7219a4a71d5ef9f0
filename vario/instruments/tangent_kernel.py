"""How alike a step on one example and a step on another are: the tangent kernel by sums of logits.

Its largest eigenvalue over its trace says how far all examples move together; the number of directions
(the exponential of the entropy of its eigenvalues) how many different things a step can learn.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from vario.capture.moment import Moment
from vario.nouns import Reading

CARD = {
    "papers": ("P186",),
    "cost": "one backward for each of at most 32 examples; on demand",
    "checked": "equation: the exact kernel by jacrev; result: its distance falls like the width to -1/2",
    "changed": "",
}


@dataclass(frozen=True)
class TangentKernel:
    """Of at most 32 examples of the batch, spread evenly over it."""

    name: str = "tangent-kernel"
    needs: frozenset[str] = frozenset({"tangent_kernel"})

    def read(self, moment: Moment) -> Iterator[Reading]:
        if "tangent_kernel" not in moment:
            return
        values = torch.linalg.eigvalsh(moment["tangent_kernel"]).clamp(min=0).cpu().numpy()
        total = float(values.sum())
        if not total > 0:
            return
        shares = values[values > 0] / total
        yield moment.reading("tangent/largest", float(values[-1]))
        yield moment.reading("tangent/trace", total)
        yield moment.reading("tangent/directions", float(np.exp(-(shares * np.log(shares)).sum())))
        yield moment.reading("tangent/examples", float(len(values)))
