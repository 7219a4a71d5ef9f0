"""What a data set holds: two that hold the same show the same examples, though one is made anew.

Trainers wrap the same arrays in a new data set for each evaluation. The wrapping is compared by its parts,
arrays by where they lie in memory; what has no parts that can be read is only equal to itself.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

__all__ = ["held"]

DEEPEST, MOST = 5, 32  # a data set in a wrapper in a wrapper; more parts than that are data, not settings


def held(thing: Any, depth: int = 0) -> Any:
    """A value that is equal for two things that hold the same."""
    if thing is None or isinstance(thing, (bool, int, float, str, bytes)):
        return thing
    if isinstance(thing, Tensor):
        return _place(thing)
    if isinstance(thing, np.ndarray):
        return "array", thing.__array_interface__["data"][0], thing.shape, thing.strides, thing.dtype.str
    parts = _parts(thing)
    if depth == DEEPEST or parts is None or len(parts) > MOST:
        return id(thing)
    return type(thing).__name__, *((name, held(part, depth + 1)) for name, part in parts.items())


def _place(tensor: Tensor) -> Any:
    try:
        where = tensor.data_ptr()
    except RuntimeError:  # without memory of its own: sparse, on the meta device
        where = 0
    return ("tensor", where, tuple(tensor.shape), tensor.stride()) if where else id(tensor)


def _parts(thing: Any) -> dict[str, Any] | None:
    if isinstance(thing, (list, tuple)):
        return {str(index): part for index, part in enumerate(thing)}
    if isinstance(thing, dict):
        return {str(key): part for key, part in thing.items()}
    return getattr(thing, "__dict__", None) or None
