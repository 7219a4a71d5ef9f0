"""``vario run --live``: what is found while the command still runs, a line when it appears and when it goes.

A thread beside the command reads the record as the dashboard does. When to look and when to speak is decided
by ``rules._live``, from the number of steps alone.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from vario.nouns import Diagnosis, Finding, VarioError

__all__ = ["Telling"]

REST = 20.0  # times its own cost is what a reading waits for before the next
LEAST_REST = 0.5  # seconds


class Telling:
    """Tells of findings inside a `with` block, and of those taken back. Whatever fails, the block goes on."""

    def __init__(self, directory: Path, say: Callable[[str], None]) -> None:
        self._directory, self._say = directory, say
        self._told: dict[tuple[str, str], Finding] = {}
        self._looks: dict[int, Diagnosis] = {}
        self._steps = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._work, name="vario-live", daemon=True)

    def __enter__(self) -> Telling:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def _work(self) -> None:
        import vario.report.words  # noqa: F401 - what is loaded once is no cost of a reading
        import vario.rules._live  # noqa: F401

        rest = LEAST_REST
        while not self._over.wait(rest):
            began = time.monotonic()
            try:
                self.look()
            except Exception as error:  # said once; the command and its summary go on
                self._say(f"vario: live findings end here ({type(error).__name__}: {error})")
                return
            rest = max(REST * (time.monotonic() - began), LEAST_REST)

    def look(self) -> None:
        """Tell what is new since the last time."""
        from vario.record.reader import open_run
        from vario.report import words
        from vario.rules._live import live

        try:
            with open_run(self._directory) as run:
                steps = max((record.step_count for record in run.records()), default=0)
                if steps == self._steps:
                    return
                found = live(run, made=self._looks).findings
        except VarioError:
            return  # no process has written anything yet
        self._steps, findings = steps, {(f.id, f.stream): f for f in found}
        for key in self._told.keys() - findings.keys():
            self._say(f"vario: step {steps}: taken back: {key[0]}")
        for key, finding in findings.items():
            if key not in self._told:
                told = words.summary(finding, words.card_of(finding.id))
                grave = f"{finding.severity}, {100 * finding.confidence:.0f} % sure"
                self._say(f"vario: step {steps}: {finding.id} ({grave}): {told}")
        self._told = findings
