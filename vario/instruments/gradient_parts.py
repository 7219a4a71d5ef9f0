"""Noise and signal of the gradient from the parts that a step is made of: micro-batches, or ranks.

The same two numbers as those of the gradient noise, from gradients of whole parts: the square of a part's
gradient against that of the step's. Few parts say little at one step; many steps are averaged. Ranks each
tell of their own part, and who reads their records takes the mean (`record.ranks`), or adds them up where
each has but a shard of the step's gradient (`record.shards`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from vario.capture.moment import Moment
from vario.nouns import Reading

CARD = {
    "papers": ("P173",),
    "cost": "one norm of the gradient for each part",
    "checked": "equation; agrees with the route over single examples on one run",
    "changed": "parts are compared with the step that they make, not with another batch",
}


@dataclass(frozen=True)
class GradientParts:
    """In units of the step's gradient; noise is the variance of one example."""

    name: str = "gradient-parts"
    needs: frozenset[str] = frozenset({"part_norms"})

    def read(self, moment: Moment) -> Iterator[Reading]:
        if "part_norms" not in moment:
            return
        found = moment["part_norms"]
        if found.parts < 2:
            return
        small = sum(float(found.squares[name].mean()) for name in found.squares)
        big = sum(found.whole.values())
        count, each = found.parts, found.examples
        small /= found.ranks if found.cut else 1
        signal, noise = (count * big - small) / (count - 1), (small - big) * each * count / (count - 1)
        if found.cut:
            yield moment.reading("shard/part_noise", (signal, noise))
        else:
            yield moment.reading("gradient_parts/signal", signal)
            yield moment.reading("gradient_parts/noise", noise)
        yield moment.reading("gradient_parts/count", count)
        yield moment.reading("gradient_parts/ranks", found.ranks)
