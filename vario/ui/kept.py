"""Answers that were given a moment ago, for whoever asks the same of the same state of a record."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable

__all__ = ["Kept"]

BUDGET = 8 << 20  # bytes: the pictures of a page at a few zooms


class Kept:
    """Bytes by key, shared between threads; what was not asked for longest goes first."""

    def __init__(self, budget: int = BUDGET) -> None:
        self._budget, self._spent = budget, 0
        self._lock = threading.Lock()
        self._answers: OrderedDict[Hashable, bytes] = OrderedDict()

    def find(self, key: Hashable) -> bytes | None:
        """The answer that was kept, None where there is none."""
        with self._lock:
            if key in self._answers:
                self._answers.move_to_end(key)
            return self._answers.get(key)

    def keep(self, key: Hashable, answer: bytes) -> None:
        """Keeps it as long as there is room."""
        with self._lock:
            self._spent += len(answer) - len(self._answers.pop(key, b""))
            self._answers[key] = answer
            while self._spent > self._budget:
                self._spent -= len(self._answers.popitem(last=False)[1])
