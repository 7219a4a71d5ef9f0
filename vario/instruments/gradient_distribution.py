"""Distribution of the magnitudes of the gradient's entries, in 64 half-decades from 1e-24 to 1e8.

The bins never change, so that distributions of steps, layers and runs add. Magnitudes below the
range count in the first bin and those above it in the last; exact zeros, infinities and NaN are
not counted. The edges are rounded to 8 binary digits (by at most 0.4 %), which makes a count exact
and cheap: the bin is looked up from the upper half of the number.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from vario.capture.moment import Moment
from vario.nouns import Reading

CARD = {
    "papers": (),
    "cost": "a table look-up per entry",
    "checked": "equation: numpy.histogram on the same edges",
    "changed": "edges rounded to 8 binary digits; double precision is rounded to single first",
}


@dataclass(frozen=True)
class GradientDistribution:
    """Counts, not shares: shares do not add."""

    name: str = "gradient-distribution"
    needs: frozenset[str] = frozenset({"gradient_histograms"})

    def read(self, moment: Moment) -> Iterator[Reading]:
        if "gradient_histograms" not in moment:
            return
        for where, counts in moment["gradient_histograms"].items():
            yield moment.reading("gradient/log_histogram", counts, where)
