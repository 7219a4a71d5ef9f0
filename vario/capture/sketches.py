"""What an example looks like, in a few thousand bytes: a small picture, words, or its first numbers.

Only of rows of a batch that is in hand: a data set that is asked for an example may draw a random number.
"""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["rows_to_show", "sketch", "small_rows"]

SIDE = 48  # pixels of a picture's longer side
LEAST = 4  # pixels of the shorter one: less is a table
LETTERS = 400
NUMBERS = 16
WILD = (1, 99)  # percent: a few wild pixels must not make all others grey


def rows_to_show(batch: Any, inputs: Sequence[Tensor], count: int) -> list[Any]:
    """What of a batch has one entry to each of `count` examples: its texts first, then its inputs."""
    parts = batch.values() if isinstance(batch, Mapping) else batch if isinstance(batch, list | tuple) else ()
    texts = [p for p in parts if isinstance(p, list | tuple) and len(p) == count and isinstance(p[0], str)]
    return [*texts, *(held for held in inputs if held.shape[:1] == (count,))]


def small_rows(inputs: Sequence[Any], rows: Sequence[int]) -> list[Any]:
    """Of each of `rows` of a batch what a sketch is made of: a text, or a small copy (float32, on the host).

    `inputs` are the batch's tensors and lists of texts, one entry a row each; None where there is nothing.
    """
    for held in inputs:
        if not isinstance(held, Tensor):
            return [str(held[row])[:LETTERS] for row in rows]
    tensors = [held for held in inputs if not held.is_complex() and not held.is_sparse]
    if not tensors:
        return [None for _ in rows]
    held = tensors[0].detach()
    return list(_small(held[torch.as_tensor(rows, device=held.device)]).float().cpu())


def sketch(row: Any) -> dict[str, Any]:
    """`picture` (a data address of a PNG), `text`, or `numbers` and whether there are `more`."""
    if isinstance(row, str):
        return {"text": row}
    return {} if row is None else _sketch(row)


def _small(rows: Tensor) -> Tensor:
    """Pictures (n, channels, height, width) of few pixels; anything else (n, numbers), the first of them."""
    pictures = _as_pictures(rows)
    if pictures is None:
        return rows.reshape(len(rows), -1)[:, : NUMBERS + 1].double()
    height, width = pictures.shape[2:]
    every = -(-max(height, width) // SIDE)
    pictures = pictures.double()
    return torch.nn.functional.avg_pool2d(pictures, every, ceil_mode=True) if every > 1 else pictures


def _as_pictures(rows: Tensor) -> Tensor | None:
    """As (n, 1 or 3, height, width), where the shape is that of pictures."""
    if rows.ndim == 3 and rows.is_floating_point() or rows.ndim == 3 and rows.dtype == torch.uint8:
        rows = rows[:, None]
    elif rows.ndim == 4 and rows.shape[1] not in (1, 3) and rows.shape[3] in (1, 3):
        rows = rows.permute(0, 3, 1, 2)
    shown = rows.ndim == 4 and rows.shape[1] in (1, 3) and min(rows.shape[2:]) >= LEAST
    return rows if shown else None


def _sketch(row: Tensor) -> dict[str, Any]:
    values = row.numpy()
    if values.ndim == 1:
        first = [float(f"{one:.4g}") for one in values[:NUMBERS].tolist()]
        return {"numbers": first, "more": len(values) > NUMBERS}
    known = values[np.isfinite(values)]
    low, high = np.percentile(known, WILD) if len(known) else (0.0, 1.0)
    if high <= low:
        low, high = (float(known.min()), float(known.max())) if len(known) else (0.0, 1.0)
    scaled = np.nan_to_num((values - low) / (high - low if high > low else 1.0)).clip(0, 1)
    pixels = np.round(255 * scaled).astype(np.uint8).transpose(1, 2, 0)
    return {"picture": "data:image/png;base64," + base64.b64encode(_png(pixels)).decode()}


def _png(pixels: NDArray[np.uint8]) -> bytes:
    """The file of a picture (height, width, 1 or 3)."""
    height, width, channels = pixels.shape
    lines = b"".join(b"\0" + line.tobytes() for line in pixels)  # each begins with its filter: none
    head = struct.pack(">IIBBBBB", width, height, 8, 2 if channels == 3 else 0, 0, 0, 0)
    parts = ((b"IHDR", head), (b"IDAT", zlib.compress(lines, 9)), (b"IEND", b""))
    chunks = [struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in parts]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)
