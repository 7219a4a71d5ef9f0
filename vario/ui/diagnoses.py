"""Findings of the runs that somebody looks at: made once per change of the record, one at a time, aside.

A diagnosis reads much of a record, so it is made in a process of its own, never for a record that has not
changed, and for a run in flight no more often than its cost allows.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vario.nouns import VarioError
from vario.ui.examiner import Examiner
from vario.ui.shelf import Stamp, stamp

__all__ = ["Diagnoses"]

REST = 20.0  # times its own cost is what a diagnosis waits for before the next of the same run
LEAST_REST = 2.0  # seconds
State = tuple[Stamp, str]  # of a record: what its file shows, and what became of the run


class _Known:
    """What is known of one run, and of which state of its record."""

    def __init__(self) -> None:
        self.state: State | None = None
        self.told: dict[str, Any] | None = None
        self.version = 0
        self.not_before = 0.0
        self.made = threading.Event()


class Diagnoses:
    """Asks for diagnoses return at once with what is known; the thread brings the rest."""

    def __init__(self, examine: Callable[[Path], dict[str, Any]] | None = None) -> None:
        self._examiner = Examiner()
        self._examine = examine or self._examiner
        self._known: dict[Path, _Known] = {}
        self._wanted: dict[Path, str] = {}  # with its status, in the order of asking
        self._more = threading.Condition()
        self._thread: threading.Thread | None = None
        self._ended = False

    def known(self, path: Path, status: str = "", *, first: bool = False) -> dict[str, Any] | None:
        """The latest findings of a run, None where there are none yet; newer ones are put to work.

        `first`: before those of other runs that wait, because somebody looks at this one.
        """
        with self._more:
            known = self._known.setdefault(path, _Known())
            if known.state != (stamp(path), status):
                others = {other: its for other, its in self._wanted.items() if other != path} if first else {}
                self._wanted = {path: status, **others} if first else {**self._wanted, path: status}
                self._start()
                self._more.notify()
            return known.told

    def wait(self, path: Path, status: str = "", *, seconds: float = 60.0) -> dict[str, Any] | None:
        """The same; waits for the first findings of a run where there are none."""
        told = self.known(path, status, first=True)
        if told is None:
            known = self._known[path]
            known.made.wait(seconds)
            told = known.told
        return told

    def version(self, path: Path) -> int:
        """Counts up whenever the findings of a run were made anew and differ."""
        known = self._known.get(path)
        return known.version if known else 0

    def forget(self, paths: set[Path]) -> None:
        """Lets go of all runs but `paths`."""
        with self._more:
            for path in set(self._known) - paths:
                del self._known[path]
                self._wanted.pop(path, None)

    def close(self) -> None:
        """Ends the thread, and the diagnosis that is under way."""
        with self._more:
            self._ended = True
            self._more.notify()
        self._examiner.close()

    def _start(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="vario-diagnoses", daemon=True)
            self._thread.start()

    def _work(self) -> None:
        while True:
            with self._more:
                path = self._next()
                while path is None and not self._ended:
                    self._more.wait(self._pause())
                    path = self._next()
                if self._ended or path is None:
                    return
                state = stamp(path), self._wanted.pop(path)
                known = self._known.setdefault(path, _Known())
            if known.state == state:
                continue
            began = time.monotonic()
            told = self._told(path)
            spent = time.monotonic() - began
            known.not_before = time.monotonic() + max(REST * spent, LEAST_REST)
            if told != known.told:
                known.version += 1
            known.told, known.state = told, state
            known.made.set()

    def _told(self, path: Path) -> dict[str, Any]:
        try:
            return self._examine(path)
        except VarioError as error:
            return {
                "run": path.name,
                "findings": [],
                "checked": [],
                "not_applicable": [],
                "error": str(error),
            }
        except Exception as error:  # noqa: BLE001 - the thread must live; the page shows what broke
            said = f"the diagnosis failed: {type(error).__name__}: {error}. `vario findings` may say more."
            return {"run": path.name, "findings": [], "checked": [], "not_applicable": [], "error": said}

    def _next(self) -> Path | None:
        now = time.monotonic()
        return next((path for path in self._wanted if self._not_before(path) <= now), None)

    def _pause(self) -> float | None:
        """Until the first of the wanted may be made; None (until somebody asks) where none is wanted."""
        times = [self._not_before(path) for path in self._wanted]
        return max(min(times) - time.monotonic(), 0.01) if times else None

    def _not_before(self, path: Path) -> float:
        known = self._known.get(path)
        return known.not_before if known else 0.0
