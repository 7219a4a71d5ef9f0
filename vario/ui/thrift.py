"""Memory that is let go of goes back to the system: a dashboard stays open for days beside a training.

Every thread that makes answers has an arena of its own in glibc's allocator, and what is freed there stays
with the process. Few arenas, and large arrays in pages of their own, keep it at what it holds (71 MB in
place of 130 after all series and the findings of 200 x 100,000). Elsewhere than with glibc nothing changes.
"""

from __future__ import annotations

import ctypes

__all__ = ["thrifty"]

ARENAS, ARENA_MAX = 2, -8  # the numbers of mallopt's settings are those of malloc.h
LARGE, TRIM_THRESHOLD = 128 << 10, -1  # setting it also stops the threshold for own pages from growing


def thrifty() -> None:
    """Set the allocator of this process so, where it is glibc's."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    mallopt(ARENA_MAX, ARENAS)
    mallopt(TRIM_THRESHOLD, LARGE)
