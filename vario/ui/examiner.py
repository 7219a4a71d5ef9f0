"""The process in which diagnoses are made: beside the server, so that no curve waits for one.

A thread would take turns with those that answer the page, and a curve of many layers gives its turn away at
every layer. The process is started by the first who asks, yields to everybody, and ends with the server.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vario.nouns import VarioError

if TYPE_CHECKING:
    from vario.record import Run

__all__ = ["Examiner", "examined", "work"]

BUDGET = 24 << 20  # bytes of points that the reader of a diagnosis keeps
POLITE = 10  # added to its niceness: a training, and the page, go first
Looks = dict[int, Any]  # what was said at earlier looks at a run in flight


class Examiner:
    """Called with the path of a run, tells what /api/run/ID/findings answers; one call at a time."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._starting, self._ended = threading.Lock(), False

    def __call__(self, path: Path) -> dict[str, Any]:
        """Raises VarioError where the record cannot be diagnosed, or the process died over it."""
        process = self._started()
        try:
            assert process.stdin is not None and process.stdout is not None
            process.stdin.write(json.dumps(os.fspath(path)) + "\n")
            process.stdin.flush()
            line = process.stdout.readline()
        except (OSError, ValueError):  # it is gone, or was closed meanwhile
            line = ""
        if not line:
            self._process = None
            raise VarioError("the diagnosis was broken off. `vario findings` says more.")
        told: dict[str, Any] = json.loads(line)
        if "refused" in told:
            raise VarioError(told["refused"])
        return told

    def close(self) -> None:
        """Ends the process, whatever it is doing."""
        with self._starting:
            self._ended = True
            process = self._process
        if process is not None:
            process.kill()
            process.wait()

    def _started(self) -> subprocess.Popen[str]:
        with self._starting:
            if self._ended:
                raise VarioError("the dashboard has ended.")
            if self._process is None:
                # By the way that this process found vario: the folder it was started in may hold a json.py.
                begin = f"import sys; sys.path[:] = {sys.path}; from vario.ui.examiner import work; work()"
                self._process = subprocess.Popen(
                    [sys.executable, "-c", begin],
                    stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                )  # fmt: skip
            return self._process


def examined(path: Path, looks: Looks | None = None) -> dict[str, Any]:
    """The answer to /api/run/ID/findings, from a reader of its own that is closed again."""
    from vario.record import open_run

    with open_run(path, budget=BUDGET) as run:
        return _told(run, {} if looks is None else looks)


def _told(run: Run, looks: Looks) -> dict[str, Any]:
    """The contract of `vario findings --json`, and the charts that show each finding."""
    from vario.remedies.prescribe import prescribe_all
    from vario.report import charts, words
    from vario.report.json import findings_dict
    from vario.rules import diagnose
    from vario.rules._live import live
    from vario.ui.about import chart_told

    diagnosis = live(run, made=looks) if run.status == "running" else diagnose(run)
    cures = prescribe_all(diagnosis, run)
    told = findings_dict(run, diagnosis, cures)
    records = run.records()
    for row, finding in zip(told["findings"], diagnosis.findings, strict=True):
        card = words.card_of(finding.id)
        record = next(
            (r for r in records if r.stream.partition("@")[0] == finding.stream.partition("@")[0]), None
        )
        shown = charts.finding_charts(finding, record, card) if record else []
        row |= {
            "title": words.title(finding.id),
            "claim": words.claim(finding.id),
            "explained_by": finding.explained_by,
            "stream": finding.stream,
            "places": words.places(finding.where),
            "charts": [chart_told(chart) for chart in shown],
        }
        for cure, prescription in zip(row["prescriptions"], cures.get(finding, ()), strict=True):
            cure["available"] = prescription.available
    told["headline"] = words.headline(run, diagnosis)
    return told


def work() -> None:
    """Reads paths, one a line, and writes what is found, until nobody asks any more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the server, and that ends this
    os.nice(POLITE)
    from vario.record.schema import FILE_NAME
    from vario.ui.thrift import thrifty

    thrifty()
    looks: dict[tuple[str, int], Looks] = {}
    for line in sys.stdin:
        path = Path(json.loads(line))
        try:
            made = (path / FILE_NAME).stat().st_ino if (path / FILE_NAME).exists() else 0
            told = examined(path, looks.setdefault((str(path), made), {}))
        except VarioError as error:
            told = {"refused": str(error)}
        except Exception as error:  # noqa: BLE001 - the next run is diagnosed all the same
            said = f"the diagnosis failed: {type(error).__name__}: {error}. `vario findings` may say more."
            told = {"refused": said}
        sys.stdout.write(json.dumps(told) + "\n")
        sys.stdout.flush()
