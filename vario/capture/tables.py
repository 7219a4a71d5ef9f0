"""The tables that a script without a loader takes its batches from, found among its variables.

A batch shows few of the rows. The tensor or array that it was indexed from shows all of them: how many there
are, and how many are copies of earlier ones. Which of several variables that hold the rows it was, nobody
can tell, so each is told.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from vario.capture import names
from vario.capture.rows import FEW_ENTRIES, MOST_ENTRIES, hash_rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Tables"]

MOST_ROWS = 1 << 16  # of a table: hashing takes about a microsecond a row
MOST_TABLES = 16


class Tables:
    """Told at the first batch; of every batch, which of its rows are in it twice."""

    def __init__(self, tell: Callable[[str, str, dict[str, Any]], None]) -> None:
        self._tell = tell  # kind, where, data
        self._told = False
        self.found = False  # whether there is one

    def twice(self, inputs: list[Tensor], hashes: NDArray[np.int64] | None) -> float | None:
        """Share of the rows of a batch that equal an earlier one of it; None where they repeat by nature.

        ``hashes`` are those of all ``inputs`` together.
        """
        batch = inputs[0]
        if batch.dim() < 2 or batch.numel() < FEW_ENTRIES * len(batch):
            return None
        if len(inputs) > 1:  # a table holds the rows of the first alone
            hashes = hash_rows([batch])
        if hashes is None or len(hashes) < 2:
            return None
        if not self._told:
            self._told = True
            for rows, copies in _holding(batch, hashes):
                self._tell("table", "", {"rows": rows, "copies": copies})
                self.found = True
        return _copies(hashes) / len(hashes) if batch.is_floating_point() else None  # words repeat


def _holding(batch: Tensor, hashes: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Rows, and copies among them, of every variable of more rows than the batch's that holds those."""
    seen: set[int] = set()
    for held in names.arrays_in_scope():
        wide = held.ndim > 1 and len(held) and np.prod(held.shape[1:]) == batch[0].numel()
        if not wide or id(held) in seen or not len(batch) < len(held) <= MOST_ROWS:
            continue
        seen.add(id(held))
        rows = _as_rows(held, batch)
        found = hash_rows([rows]) if rows is not None else None
        if found is not None and np.isin(hashes, found).all():
            yield len(found), _copies(found)
        if len(seen) == MOST_TABLES:
            return


def _as_rows(held: Any, batch: Tensor) -> Tensor | None:
    """What is hashed of each row, in the batch's own type."""
    every = -(-batch[0].numel() // MOST_ENTRIES)
    if isinstance(held, np.ndarray):
        if held.dtype.kind not in "fiu":
            return None
        held = torch.tensor(held.reshape(len(held), -1)[:, ::every])
        every = 1
    if held.layout != torch.strided or held.device.type != "cpu":
        return None
    rows: Tensor = held.detach().reshape(len(held), -1)[:, ::every].to(batch.dtype)
    return rows


def _copies(hashes: NDArray[np.int64]) -> int:
    return len(hashes) - len(np.unique(hashes))
