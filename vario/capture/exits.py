"""The ends of a process: a normal end, an exception, a child of multiprocessing, a fork."""

from __future__ import annotations

import atexit
import multiprocessing.util
import os
import sys
from collections.abc import Callable
from types import TracebackType

__all__ = ["at_exit", "in_forked_child"]


def at_exit(finish: Callable[[str], None]) -> None:
    """Call `finish(error)` once at the end of this process; `error` is "" where none was uncaught."""
    state = {"error": ""}
    process = [os.getpid()]
    before = sys.excepthook

    def noted(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        state["error"] = f"{kind.__name__}: {error}"
        before(kind, error, trace)

    def once() -> None:
        if process and process.pop() == os.getpid():
            finish(state["error"])

    sys.excepthook = noted
    atexit.register(once)
    multiprocessing.util.Finalize(None, once, exitpriority=-100)  # its children end without atexit


def in_forked_child(begin_anew: Callable[[], None]) -> None:
    """Call `begin_anew` in every child that is forked from here."""
    os.register_at_fork(after_in_child=begin_anew)
