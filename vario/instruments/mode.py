"""Share of the modules with two modes (Dropout, BatchNorm) that were in train mode at the training forward.

A share of 0 means that a call of ``eval()`` was never undone: dropout is off, batch statistics stand still.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from vario.capture.moment import Moment
from vario.nouns import Reading

CARD = {
    "papers": (),
    "cost": "nothing",
    "checked": "closed form: models in train, eval and mixed mode",
    "changed": "",
}


@dataclass(frozen=True)
class Mode:
    """For each class of module; evaluation's own share comes with its pass."""

    name: str = "mode"
    needs: frozenset[str] = frozenset({"modes"})

    def read(self, moment: Moment) -> Iterator[Reading]:
        if "modes" not in moment:
            return
        for kind, (training, count) in moment["modes"].items():
            if count:
                yield moment.reading("mode/train_share", training / count, kind)
