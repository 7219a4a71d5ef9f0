"""Numbers for the page as bytes: a header of JSON, then arrays as they lie in memory.

uint32 length of the header, the header, zeros up to a multiple of 8 bytes, then the arrays one after
another, little endian. The page lays typed arrays over them without parsing a digit.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["envelope"]


def envelope(header: Mapping[str, Any], arrays: Iterable[NDArray[Any]], dtype: str = "<f8") -> bytes:
    """`header` and `arrays`, the latter as `dtype`; each array is laid out flat."""
    text = json.dumps(header, allow_nan=False, ensure_ascii=False, separators=(",", ":")).encode(
        "utf-8", "replace"
    )
    pad = -(4 + len(text)) % 8
    with np.errstate(over="ignore"):  # beyond float32 is infinite on a screen as well
        parts = [np.ascontiguousarray(array).astype(dtype, copy=False).tobytes() for array in arrays]
    return b"".join([struct.pack("<I", len(text)), text, bytes(pad), *parts])
