"""Squared length of the true gradient and the variance around it, both without bias.

Their ratio is the gradient noise scale: the batch size at which half of a step is noise. It is not
taken here, because a ratio of two noisy numbers is biased: average each over steps first, divide last.
A reading of the signal may be negative; it is then not told from zero. By parameter it says which layers
are noise. The norm test (P030) for a batch of n asks whether noise / n is below eta^2 (signal + noise / n).

Where ranks average their gradients, the batch is that of all of them: each rank compares its own examples
with the gradient that all have made, and the mean over ranks is what one process would read. Where each has
but a shard of that gradient, it tells of its share, and the shares of all are added (`record.shards`).

Of a mean over tokens, of which examples have more or fewer, an example's gradient is its share of that mean.
The noise is over then by signal times the squared coefficient of variation of their numbers: the noise scale
by so many examples, which is rarely as much as one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from vario.capture.moment import Moment
from vario.capture.per_example.norms import ExampleNorms
from vario.nouns import Reading

CARD = {
    "papers": ("P173", "P033", "P030"),
    "cost": "the norms of an eighth of the batch's examples, from one backward",
    "checked": "equation; closed form: gradients drawn around a known mean; least squares within 3 % of its "
    "exact noise scale",
    "changed": "the small batch is one example and the large one the batch itself, from one backward; of the "
    "parameters that the graph lets see, whose part in its squared norm is given. Coherence (P033) "
    "is signal over signal plus noise: the same numbers, without the bias of the length of the mean",
}


@dataclass(frozen=True)
class GradientNoise:
    """In units of the batch's gradient: with a sum over n examples, both are n^2 times those of a mean.

    Nothing is said of the whole model where less than ``least`` of the gradient's squared norm is seen.
    """

    name: str = "gradient-noise"
    needs: frozenset[str] = frozenset({"example_norms", "part_norms"})
    least: float = 0.5

    def read(self, moment: Moment) -> Iterator[Reading]:
        if "example_norms" not in moment:
            return
        found = moment["example_norms"]
        batch, ranks, cut = _whole(moment, found)
        count, looked_at = found.examples * ranks, found.looked_at
        everything = sum(batch.values())
        seen = [name for name in found.squares if name in batch]
        if count < 2 or not looked_at or not seen or not np.isfinite(everything):
            return  # one example says nothing about spread
        total_small = total_big = 0.0
        for name in seen:
            # an example's gradient is its share times their number; those that are looked at stand for all
            small = found.examples * float(found.squares[name].sum()) * found.examples / looked_at
            small, big = small / (ranks if cut else 1), batch[name]
            total_small, total_big = total_small + small, total_big + big
            yield from _parts(moment, small, big, count, cut, name)
        mine = found.batch if cut else batch  # that each process sees enough is for each to say
        share = _over(sum(mine.get(name, 0.0) for name in seen), sum(mine.values()))
        if cut:
            yield moment.reading("shard/example_seen", (total_big, everything))
        else:
            yield moment.reading("gradient_noise/seen_share", share)
        if share >= self.least:
            yield from _parts(moment, total_small, total_big, count, cut, "")


def _whole(moment: Moment, found: ExampleNorms) -> tuple[dict[str, float], int, bool]:
    """Squared norms of the gradient of the batch, the ranks among which its examples are, and whether the
    norms are but this rank's share."""
    parts = moment["part_norms"] if "part_norms" in moment else None
    if parts is None or parts.ranks < 2 or parts.parts != parts.ranks:
        return found.batch, 1, False  # of one process, or of one of several backwards
    return parts.whole, parts.ranks, parts.cut


def _over(part: float, whole: float) -> float:
    return part / whole if whole > 0 else 1.0


def _parts(moment: Moment, small: float, big: float, count: int, cut: bool, where: str) -> Iterator[Reading]:
    """Of the mean square of one example's gradient, and the square of the mean of ``count`` of them."""
    signal, noise = (count * big - small) / (count - 1), (small - big) * count / (count - 1)
    if cut:
        yield moment.reading("shard/example_noise", (signal, noise), where)
        return
    yield moment.reading("gradient_noise/signal", signal, where)
    yield moment.reading("gradient_noise/noise", noise, where)
