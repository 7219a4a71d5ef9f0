"""One run of a trial: the command started under watch, looked after, and its end explained.

Standard output and error go to files beside the record. The run is the leader of its own group of
processes, so that all of it can be ended; on Linux it ends when vario is killed.
"""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from vario.nouns import VarioError
from vario.trials.pairs import Job
from vario.trials.runner import Limits, Outcome

__all__ = ["Child", "run_to_end"]

LOOK = 0.5  # seconds between looks at memory and signs of life
GRACE = 5.0  # seconds between asking a run to end and ending it
STALE = 0.5  # of a run that is cut short: without a step for this share of its time, it had hung
LAST_WORDS = 300  # characters of an error that are shown
OVERHEAD = 0.03


class Child:
    """A run under way."""

    def __init__(self, job: Job, home: Path, *, limits: Limits, env: Mapping[str, str] | None = None) -> None:
        from vario.record.runs import create_run

        self.job, self._limits = job, limits
        meta = {"arm": job.arm, "seed": job.seed, "cwd": os.getcwd(), "overhead": OVERHEAD}
        self.path = create_run(home, command=job.command, meta=meta)
        self._began = self._alive = time.time()
        self._looked = 0.0
        self.resident = self.peak = 0
        self._why = ""
        self._stopped = False
        self._process: subprocess.Popen[bytes] | None = None
        self._start(env or {})

    def poll(self) -> Outcome | None:
        """How it ended, None while it runs."""
        if self._process is None:
            return self._outcome(127)
        code = self._process.poll()
        if code is not None:
            return self._outcome(code)
        now = time.time()
        if now - self._looked >= LOOK:
            self._looked = now
            self._look(now)
        return None

    def end(self) -> None:
        """End the run and everything that it started."""
        process = self._process
        if process is None:
            return
        for number, patience in ((signal.SIGTERM, GRACE), (signal.SIGKILL, None)):
            try:
                os.killpg(process.pid, number)
            except (ProcessLookupError, PermissionError):
                pass
            try:
                process.wait(patience)
            except subprocess.TimeoutExpired:
                continue
            if number == signal.SIGTERM:
                continue  # its children may live on: the second signal is for them
        process.poll()

    def _start(self, env: Mapping[str, str]) -> None:
        from vario.capture.launch import environment

        given = environment(
            self.path, overhead=OVERHEAD, metrics=dict(self.job.metrics), treatment=self.job.treatment
        )
        command = [*_ends_with_us(), *_words(self.job.command)]
        try:
            with open(self.path / "stdout.txt", "wb") as out, open(self.path / "stderr.txt", "wb") as err:
                self._process = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, env={**given, **env},
                    start_new_session=True,
                )  # fmt: skip
        except OSError as error:
            self._why = f"cannot start {self.job.command[0]}: {error.strerror}"

    def _look(self, now: float) -> None:
        assert self._process is not None
        self.resident = _resident(self._process.pid)
        self.peak = max(self.peak, self.resident)
        self._alive = max([self._alive, *_touched(self.path)])
        minutes, silent = (now - self._began) / 60, (now - self._alive) / 60
        if silent > self._limits.stall:
            self._why = f"hung: no step and no output for {_minutes(silent)}"
        elif minutes > self._limits.minutes:
            if silent > STALE * minutes:
                self._why = (
                    f"hung: no step and no output in the last {_minutes(silent)} of {_minutes(minutes)}"
                )
            self._stopped = not self._why
        else:
            return
        self.end()

    def _outcome(self, code: int) -> Outcome:
        seconds = time.time() - self._began
        reason = self._why
        if not reason and not self._stopped and code:
            ending = f"signal {-code}" if code < 0 else f"exit code {code}"
            words, printed = (_last_words(self.path / name) for name in ("stderr.txt", "stdout.txt"))
            if words:
                reason = f"{ending}: {words}"
            else:  # some print what is wrong; it may as well be the progress of a run that was killed
                reason = f"{ending}; its last line: {printed}" if printed else ending
        self._close(code, reason)
        return Outcome(self.job, self.path, seconds, reason, self._stopped, self.peak)

    def _close(self, code: int, reason: str) -> None:
        """The end, written as `vario run` writes it, so that the record's status is known."""
        from vario.record.store import RecordWriter

        try:
            writer = RecordWriter(self.path)
            data = {"code": max(code, 0), "signal": max(-code, 0), "error": reason}
            writer.event("", -1, "exit", data=data)
            writer.close()
        except VarioError:  # a full disk: what was flushed stays readable
            return


def run_to_end(job: Job, home: Path, *, limits: Limits, env: Mapping[str, str] | None = None) -> Outcome:
    """The same, waited for."""
    child = Child(job, home, limits=limits, env=env)
    try:
        while (outcome := child.poll()) is None:
            time.sleep(0.05)
    except BaseException:
        child.end()
        raise
    return outcome


@functools.cache
def _ends_with_us() -> tuple[str, ...]:
    """What makes the kernel end a run when we are killed: util-linux, where it is new enough."""
    prefix = ("setpriv", "--pdeathsig", "TERM", "--")
    try:
        done = subprocess.run([*prefix, "true"], capture_output=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ()
    return prefix if done.returncode == 0 else ()


def _words(command: Sequence[str]) -> list[str]:
    rest = list(command[1:] if command[:1] == ("--",) else command)
    return [sys.executable, *rest] if rest and (rest[0].endswith(".py") or rest[0] == "-m") else rest


def _touched(path: Path) -> list[float]:
    """When the record and the output were last written to."""
    found = []
    for name in ("record.sqlite", "record.sqlite-wal", "stdout.txt", "stderr.txt"):
        try:
            found.append((path / name).stat().st_mtime)
        except OSError:
            continue
    return found


def _resident(leader: int) -> int:
    """Bytes of memory of the processes in the leader's session; 0 where the system does not tell."""
    total = 0
    page = os.sysconf("SC_PAGE_SIZE")
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            if int(fields[3]) == leader:
                total += int(fields[21]) * page
        except (OSError, IndexError, ValueError):
            continue
    return total


def _last_words(path: Path) -> str:
    """The last line of an output that is not ours."""
    with open(path, "rb") as file:
        file.seek(max(0, path.stat().st_size - 10_000))
        text = file.read().decode(errors="replace")
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("vario:")]
    return lines[-1][:LAST_WORDS] if lines else ""


def _minutes(minutes: float) -> str:
    return f"{60 * minutes:.0f} s" if minutes < 2 else f"{minutes:.0f} minutes"
