"""What an accelerator asks of whoever watches: its queue is the script's, and so is a graph in the making.

Work is queued there and done later. Whoever reads a number waits for all that was queued before it, and
must not take that wait for his own time. While a CUDA graph is captured nothing may be read at all: that
would end the capture, and the run with it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

__all__ = ["Autocast", "Graphs", "capturing", "wait_for_queue"]

_CUDA = torch.backends.cuda.is_built()


def capturing() -> bool:
    """Whether the current stream is being captured into a CUDA graph."""
    return _CUDA and torch.cuda.is_initialized() and torch.cuda.is_current_stream_capturing()


class Graphs:
    """Tells once that a CUDA graph was captured: replayed without a word of Python, it is not seen."""

    def __init__(self, happened: Callable[[str, str, dict[str, Any]], None]) -> None:
        self._happened, self._told = happened, False

    def in_the_making(self) -> bool:
        """Whether one is captured just now."""
        if not capturing():
            return False
        if not self._told:
            self._told = True
            self._happened("graph_captured", "", {})
        return True


def wait_for_queue(tensor: Tensor) -> float:
    """Seconds until all is done that was queued on the tensor's device; 0 on the processor."""
    device = tensor.device
    if device.type in ("cpu", "meta"):
        return 0.0
    start = time.perf_counter()
    if device.type == "cuda":
        torch.cuda.current_stream(device).synchronize()  # side streams, as of a prefetcher, go on
    else:
        torch.get_device_module(device).synchronize()
    return time.perf_counter() - start


class Autocast:
    """`happened` is told once that lower precision is in use."""

    def __init__(self, happened: Callable[[str, str, dict[str, Any]], None]) -> None:
        self._happened = happened
        self._told = False

    def entered(self, autocast: Any) -> None:
        if not self._told and getattr(autocast, "_enabled", False):
            self._told = True
            dtype = str(getattr(autocast, "fast_dtype", "")).removeprefix("torch.")
            self._happened("autocast", "", {"dtype": dtype, "device": str(getattr(autocast, "device", ""))})
