"""Squared length of the true gradient and the variance around it, both without bias.

Their ratio is the gradient noise scale: the batch size at which half of a step is noise. It is not
taken here, because a ratio of two noisy numbers is biased: average each over steps first, divide last.
A reading of the signal may be negative; it is then not told from zero.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from vario.capture.moment import Moment
from vario.nouns import Reading

CARD = {
    "papers": ("P173",),
    "cost": "one squared norm per example",
    "checked": "equation; closed form: gradients drawn around a known mean",
    "changed": "the small batch is one example and the large one the batch itself, from one backward; of the "
    "parameters that the graph lets see, whose part in the gradient's squared norm is given",
}


@dataclass(frozen=True)
class GradientNoise:
    """In units of the batch's gradient: with a sum over n examples, both are n^2 times those of a mean."""

    name: str = "gradient-noise"
    needs: frozenset[str] = frozenset({"example_gradients"})

    def read(self, moment: Moment) -> Iterator[Reading]:
        if "example_gradients" not in moment:
            return
        found = moment["example_gradients"]
        count = found.examples
        seen = [name for name in found.squares if name in found.batch_squares]
        if count < 2 or not seen:
            return  # one example says nothing about spread
        total_small = total_big = 0.0
        for name in seen:
            # an example's gradient is its share times their number, so the mean of the squares is
            small = count * float(found.squares[name].sum())
            big = float(found.batch_squares[name])
            total_small, total_big = total_small + small, total_big + big
            yield from _parts(moment, small, big, count, name)
        yield from _parts(moment, total_small, total_big, count, "")
        everything = sum(float(square) for square in found.batch_squares.values())
        if everything > 0:
            yield moment.reading("gradient_noise/seen_share", total_big / everything)


def _parts(moment: Moment, small: float, big: float, count: int, where: str) -> Iterator[Reading]:
    yield moment.reading("gradient_noise/signal", (count * big - small) / (count - 1), where)
    yield moment.reading("gradient_noise/noise", (small - big) * count / (count - 1), where)
