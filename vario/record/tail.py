"""What a writer holds in memory: series that are read together, and the tail of a stream."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vario.nouns import Reading, VarioError
from vario.record import packing

CHUNK_POINTS = 950  # of single precision they fill a page of the file, without being compressed
TAIL_BYTES = 16 << 20  # a tail of wide vectors becomes chunks earlier, to bound memory


class Layout:
    """A set of series that are read together, and their points since the last flush.

    `tail`: the stream, and the series where it stands `alone`, in a tail of its own.
    """

    def __init__(
        self, stream: str, keys: list[tuple[str, str]], widths: tuple[int, ...], *, alone: bool = False
    ) -> None:
        self.tail = stream, keys[0][0] if alone else ""
        self.stream, self.keys, self.widths = stream, keys, widths
        self.names, self.places = [name for name, _ in keys], [place for _, place in keys]
        self.ids: NDArray[np.int32] | None = None
        self.steps: list[int] = []
        self.rows: list[bytes] = []
        self._scalars = None if any(widths) else struct.Struct(f"{len(keys)}d")

    def values(self, batch: list[Reading]) -> list[Any] | None:
        """Those of as many readings, if they are of these series in this order; None where they are not."""
        values = [
            reading.value
            for reading, name, place in zip(batch, self.names, self.places, strict=True)
            if reading.series == name and reading.where == place
        ]
        return values if len(values) == len(batch) else None

    def scalar_row(self, values: list[Any]) -> bytes | None:
        """The values end to end where all are numbers, as they nearly always are; None where they are not."""
        try:
            return self._scalars.pack(*values) if self._scalars else None
        except (struct.error, TypeError, ValueError, OverflowError):
            return None


class Block:
    """One flushed row of the tail."""

    def __init__(self, id: int, layout: Layout, steps: packing.Steps, points: packing.Floats) -> None:
        self.id, self.layout, self.steps, self.points = id, layout, steps, points
        assert layout.ids is not None
        self.ids = layout.ids


class Tail:
    """What this process has flushed of one stream and not yet packed into chunks."""

    def __init__(self) -> None:
        self.blocks: list[Block] = []
        self.counts: NDArray[np.int64] = np.zeros(0, np.int64)
        self.bytes = 0

    def add(self, block: Block) -> None:
        self.blocks.append(block)
        self.bytes += block.points.nbytes
        if block.ids.max() >= len(self.counts):
            self.counts = np.pad(self.counts, (0, 2 * int(block.ids.max()) + 1 - len(self.counts)))
        self.counts[block.ids] += len(block.steps)

    def is_full(self) -> bool:
        return bool(self.counts.max() >= CHUNK_POINTS) or self.bytes >= TAIL_BYTES

    def columns(self) -> dict[int, tuple[packing.Steps, packing.Floats]]:
        """Steps and values of each series, in the order of the steps."""
        parts: dict[int, list[tuple[packing.Steps, packing.Floats]]] = {}
        layouts: dict[Layout, list[Block]] = {}
        for block in self.blocks:
            layouts.setdefault(block.layout, []).append(block)
        for layout, blocks in layouts.items():
            steps = np.concatenate([block.steps for block in blocks])
            points = np.ascontiguousarray(np.concatenate([block.points for block in blocks]).T)
            at = 0
            for series, width in zip(blocks[0].ids.tolist(), layout.widths, strict=True):
                values = points[at] if not width else np.ascontiguousarray(points[at : at + width].T)
                parts.setdefault(series, []).append((steps, values))
                at += max(width, 1)
        return {series: _merged(pieces) for series, pieces in parts.items()}


def _merged(pieces: list[tuple[packing.Steps, packing.Floats]]) -> tuple[packing.Steps, packing.Floats]:
    if len(pieces) == 1:
        return pieces[0]
    steps = np.concatenate([piece[0] for piece in pieces])
    order = np.argsort(steps, kind="stable")
    return steps[order], np.concatenate([piece[1] for piece in pieces])[order]


def any_row(keys: list[tuple[str, str]], values: list[Any]) -> tuple[bytes, tuple[int, ...]]:
    """All values end to end, and the width of each: 0 for a scalar."""
    parts, widths = [], []
    for (series, where), value in zip(keys, values, strict=True):
        try:
            part = np.asarray(value, np.float64)
        except (TypeError, ValueError) as error:
            raise VarioError(
                f"{series} at {where!r} was read as {value!r}; a reading is a float or floats."
            ) from error
        if part.ndim > 1 or part.size == 0:
            raise VarioError(
                f"{series} at {where!r} has shape {part.shape}; a reading is a float or a flat row of floats."
            )
        widths.append(part.size if part.ndim else 0)
        parts.append(part.reshape(-1))
    return np.concatenate(parts).tobytes(), tuple(widths)
