"""This process's share of squared norms, sums and counts, where parameters are cut over several processes.

The shares of all processes add up to those of the whole, so `gradient/norm`, `gradient/std`, `weight/norm`,
the update's and others are known to who reads their records together, and nothing is sent between them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from vario.capture.moment import Moment
from vario.nouns import Reading

CARD = {
    "papers": (),
    "cost": "a copy of the local weights and twelve reads",
    "checked": "closed form: the same training in one process, under both kinds of FSDP",
    "changed": "",
}


@dataclass(frozen=True)
class Shards:
    """What several processes hold alike counts in each for its part of one. Silent where all is whole."""

    name: str = "shards"
    needs: frozenset[str] = frozenset(
        """shard_gradients shard_moments shard_histograms shard_weights shard_weight_moments
        shard_changes""".split()
    )

    def read(self, moment: Moment) -> Iterator[Reading]:
        if "shard_gradients" not in moment:
            return
        for where, (square, non_finite) in moment["shard_gradients"].items():
            yield moment.reading("shard/gradient", square, where)
            yield moment.reading("shard/gradient_non_finite", non_finite, where)
        for where, moments in moment["shard_moments"].items():
            yield moment.reading("shard/gradient_moments", moments, where)
        for where, counts in moment["shard_histograms"].items():
            yield moment.reading("shard/gradient_log_histogram", counts, where)
        for where, (square, non_finite) in moment["shard_weights"].items():
            yield moment.reading("shard/weight", square, where)
            yield moment.reading("shard/weight_non_finite", non_finite, where)
        for where, moments in moment["shard_weight_moments"].items():
            yield moment.reading("shard/weight_moments", moments, where)
        for where, (change, before) in moment["shard_changes"].items():
            yield moment.reading("shard/update", change, where)
            yield moment.reading("shard/weight_before", before, where)
