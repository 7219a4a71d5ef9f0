"""How the examples of a batch differ: deciles of loss, error norm, margin, entropy, who is surely wrong.

The error norm is EL2N of one network at one step: the length of softmax minus label. The margin is
the label's probability minus the largest other one. Examples that are confidently wrong late in
training are often mislabelled.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from vario.capture.moment import Moment
from vario.nouns import Reading

CARD = {
    "papers": ("P024",),
    "cost": "some ten reads of the outputs",
    "checked": "equation: numpy in float64",
    "changed": "one network and one step, where the paper averages ten; at most 4 million logits are "
    "read, in evenly spaced rows; class weights and label smoothing are left out of an example's loss",
}

_DECILES = np.linspace(0, 1, 11)


@dataclass(frozen=True)
class Examples:
    """An example is what has a label of its own (a picture, a token); for regression only losses."""

    name: str = "examples"
    needs: frozenset[str] = frozenset({"examples", "regression_losses"})

    def read(self, moment: Moment) -> Iterator[Reading]:
        if "examples" not in moment:
            if "regression_losses" in moment:
                yield from _losses(moment, moment["regression_losses"])
            return
        found = moment["examples"]
        yield from _losses(moment, found.loss)
        yield moment.reading("examples/error_norm", float(found.error_norm.mean()))
        yield moment.reading("examples/margin", float(found.margin.mean()))
        yield moment.reading("examples/entropy", float(found.entropy.mean()))
        rival = found.label_probability - found.margin
        yield moment.reading("examples/confidence", float(np.maximum(found.label_probability, rival).mean()))
        wrong = (found.label_probability < 0.1) & (rival > 0.5)
        yield moment.reading("examples/confident_wrong", float(wrong.mean()))


def _losses(moment: Moment, losses: np.ndarray[tuple[int], np.dtype[np.float64]]) -> Iterator[Reading]:
    if np.isfinite(losses).all():  # a decile among NaN has no meaning
        yield moment.reading("examples/loss_mean", float(losses.mean()))
        yield moment.reading("examples/loss_quantiles", _quantiles(losses))
    yield moment.reading("examples/zero_loss_share", float((losses == 0).mean()))


def _quantiles(values: np.ndarray[tuple[int], np.dtype[np.float64]]) -> list[float]:
    """As numpy.quantile, in a tenth of its time on a batch."""
    found = np.interp(_DECILES * (len(values) - 1), np.arange(len(values)), np.sort(values))
    return [float(value) for value in found]
