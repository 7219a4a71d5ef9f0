"""Which example of its data set each row of a step's losses belongs to, where that is certain.

A loader tells what it drew and in which order. What the script makes of the batch it does not tell: it may
mix, sort or drop examples, or work on an earlier batch than the last one drawn. So the targets that the loss
function was given must be those of the batch: the same memory, or equal where chance would hardly make them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from vario.capture.needs import Drawn, LossCall

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["drawn_of", "indices_of"]

RARE = 1000  # batches of some eight examples of different classes


def drawn_of(calls: Sequence[LossCall]) -> list[tuple[Drawn, bool]] | None:
    """What each call was about, and whether its targets are the batch's own memory.

    None unless all are known and of one data set.
    """
    drawn = [(call.drawn, _is_one_of(call.target, call.drawn)) for call in calls if call.drawn is not None]
    one = len({batch.loader for batch, _ in drawn}) == 1
    return drawn if one and len(drawn) == len(calls) else None


def indices_of(drawn: Sequence[tuple[Drawn, bool]], targets: NDArray[np.float64]) -> NDArray[np.int64] | None:
    """Indices (n,) into the data set of rows with these targets (n,); None where they might be others'."""
    at = 0
    for batch, same in drawn:
        these = torch.from_numpy(targets[at : at + len(batch.indices)]).float()
        if not any(torch.equal(target.reshape(-1).float(), these) for target in batch.targets):
            return None
        if not same and _orders(these) < math.log(RARE):
            return None
        at += len(these)
    return np.concatenate([batch.indices for batch, _ in drawn]) if at == len(targets) else None


def _is_one_of(target: Tensor | None, batch: Drawn) -> bool:
    return target is not None and any(target.data_ptr() == other.data_ptr() for other in batch.targets)


def _orders(targets: Tensor) -> float:
    """Logarithm of the number of ways to arrange them: so many other batches with these look the same."""
    counts = torch.unique(targets, return_counts=True)[1].double()
    return math.lgamma(len(targets) + 1) - float(torch.lgamma(counts + 1).sum())
