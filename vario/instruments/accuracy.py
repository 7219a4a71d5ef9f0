"""Share of the training batch that is classified right, and how often each class is hit and guessed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from vario.capture.moment import Moment
from vario.capture.predictions import CLASSES
from vario.nouns import Reading

CARD = {
    "papers": (),
    "cost": "shared with examples",
    "checked": "equation: numpy",
    "changed": "at most 4 million logits are read, in evenly spaced rows",
}


@dataclass(frozen=True)
class Accuracy:
    """Before the step, in train mode, as the loss saw it; per class where there are at most 1,000."""

    name: str = "accuracy"
    needs: frozenset[str] = frozenset({"examples"})

    def read(self, moment: Moment) -> Iterator[Reading]:
        if "examples" not in moment:
            return
        found = moment["examples"]
        right = found.guess == found.label
        yield moment.reading("accuracy/train", float(right.mean()))
        if found.classes <= CLASSES:
            for quantity, which in (("class_correct", found.label[right]), ("predicted_counts", found.guess)):
                counts = np.bincount(which.astype(np.int64), minlength=found.classes)
                yield moment.reading(f"accuracy/{quantity}", counts.astype(float).tolist())
