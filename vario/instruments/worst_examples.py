"""The examples of a batch with the largest losses: which of the data set they are, and what was guessed.

Numbers of examples are those of the loader's data set: ``loader.dataset[example]`` is the first of them.
Late in training the worst are often mislabelled; ``examples`` measures the same of the whole batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vario.capture.drawn import indices_of
from vario.capture.moment import Moment
from vario.capture.needs import Drawn
from vario.nouns import Reading

CARD = {
    "papers": ("P024",),
    "cost": "shared with examples",
    "checked": "closed form: a loader whose wrong labels are known",
    "changed": "ranked by the loss of one network at one step, where the paper averages error norms over ten",
}

MOST = 16  # of a step


@dataclass(frozen=True)
class WorstExamples:
    """Worst first, filled up with NaN; silent without a DataLoader, and where rows might be others'."""

    name: str = "worst-examples"
    needs: frozenset[str] = frozenset({"examples", "regression_losses", "regression_labels", "drawn"})

    def read(self, moment: Moment) -> Iterator[Reading]:
        found = worst_of(moment)
        if found is None:
            return
        for quantity, values in {"example": found.indices, **found.values}.items():
            yield moment.reading(f"worst/{quantity}", _filled(values[found.worst]), found.drawn[0][0].loader)


class Found(NamedTuple):
    """The rows of a step: their numbers in the data set, what is known of each, the worst in order."""

    drawn: list[tuple[Drawn, bool]]
    indices: NDArray[np.int64]
    values: Mapping[str, NDArray[np.float64] | NDArray[np.int64]]
    worst: NDArray[np.intp]


def worst_of(moment: Moment) -> Found | None:
    """None without a DataLoader, and where rows might be others'."""
    if "drawn" not in moment:
        return None
    if "examples" in moment:
        found = moment["examples"]
        loss, target = found.loss, found.label
        more = {"guess": found.guess, "probability": found.label_probability}
    elif "regression_losses" in moment and "regression_labels" in moment:
        loss, target, more = moment["regression_losses"], moment["regression_labels"], {}
    else:
        return None
    indices = indices_of(moment["drawn"], target) if len(loss) == len(target) else None
    if indices is None or not np.isfinite(loss).all():
        return None
    worst = np.argsort(-loss, kind="stable")[:MOST]
    return Found(moment["drawn"], indices, {"loss": loss, "target": target, **more}, worst)


def _filled(values: NDArray[np.float64] | NDArray[np.int64]) -> list[float]:
    return [*values.tolist(), *[float("nan")] * (MOST - len(values))]
