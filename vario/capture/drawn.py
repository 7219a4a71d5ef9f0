"""Which example of its data set each row of a step's losses belongs to, where that is certain.

A loader tells what it drew and in which order. What the script makes of the batch it does not tell: it may
mix, sort or drop examples. So the targets that the loss function was given must equal those of the batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from vario.capture.needs import Drawn, LossCall

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["drawn_of", "indices_of"]


def drawn_of(calls: Sequence[LossCall]) -> list[Drawn] | None:
    """What each call was about; None unless all are known and of one data set."""
    drawn = [call.drawn for call in calls if call.drawn is not None]
    one = len({batch.loader for batch in drawn}) == 1
    return drawn if one and len(drawn) == len(calls) else None


def indices_of(drawn: Sequence[Drawn], targets: NDArray[np.float64]) -> NDArray[np.int64] | None:
    """Indices (n,) into the data set of rows with these targets (n,); None where they might be others'."""
    at = 0
    for batch in drawn:
        these = torch.from_numpy(targets[at : at + len(batch.indices)]).float()
        if not any(torch.equal(target.reshape(-1).float(), these) for target in batch.targets):
            return None
        at += len(these)
    return np.concatenate([batch.indices for batch in drawn]) if at == len(targets) else None
