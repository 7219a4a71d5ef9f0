"""Runs on this machine: as many at once as its cores and its memory allow.

Each run gets its share of the cores (OMP_NUM_THREADS, unless the user set it), and where there are several
accelerators, one of them. No run is started while the memory that is free would not hold another one.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from vario.trials.child import Child
from vario.trials.files import folder
from vario.trials.pairs import Job
from vario.trials.runner import Limits, Outcome

__all__ = ["LocalRunner", "cores", "devices"]

POLL = 0.02
AT_LEAST = 400 << 20  # bytes that any run with torch takes; what the largest one took, as soon as it is known
HEADROOM = 1.1


class LocalRunner:
    """`jobs` runs at once, by default one per core, or one per accelerator where there are any."""

    def __init__(
        self,
        jobs: int | None = None,
        *,
        limits: Limits | None = None,
        free: Callable[[], int] | None = None,
    ) -> None:
        self._limits = limits or Limits()
        self._devices = devices()
        self.jobs = jobs or (min(cores(), len(self._devices)) if self._devices else cores())
        self._free = free or _available
        self._running: list[tuple[Child, str]] = []
        self._peak = AT_LEAST

    def has_room(self) -> bool:
        """Whether a slot is free, and memory for one more after those that run have grown to the largest."""
        if not self._running:
            return True
        if len(self._running) >= self.jobs:
            return False
        expected = HEADROOM * max([self._peak, *(child.peak for child, _ in self._running)])
        growing = sum(max(0.0, expected - child.resident) for child, _ in self._running)
        free = self._free()
        return free < 0 or free >= growing + expected

    def start(self, job: Job, home: Path) -> None:
        """Begin a run."""
        env = {} if sys.platform == "win32" else {"VARIO_KEPT": str(folder(home))}
        if "OMP_NUM_THREADS" not in os.environ:
            env["OMP_NUM_THREADS"] = str(max(1, cores() // self.jobs))
        device = ""
        if self.jobs > 1 and self._devices:
            taken = [device for _, device in self._running]
            device = min(self._devices, key=taken.count)
            env["CUDA_VISIBLE_DEVICES"] = device
        self._running.append((Child(job, home, limits=self._limits, env=env), device))

    def wait(self, seconds: float) -> Outcome | None:
        """The next run that has ended."""
        until = time.monotonic() + seconds
        while True:
            for entry in self._running:
                outcome = entry[0].poll()
                if outcome is not None:
                    self._running.remove(entry)
                    self._peak = max(self._peak, outcome.peak_bytes)
                    return outcome
            if time.monotonic() >= until:
                return None
            time.sleep(POLL)

    def one_by_one(self) -> bool:
        """Start no run beside another from here on; False where that is so already."""
        before, self.jobs = self.jobs, 1
        return before > 1

    def stop(self) -> None:
        """End all that run."""
        for child, _ in self._running:
            child.end()
        self._running.clear()


def cores() -> int:
    """Cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not Linux
        return os.cpu_count() or 1


def devices() -> tuple[str, ...]:
    """The NVIDIA accelerators that may be used, as CUDA_VISIBLE_DEVICES names them."""
    told = os.environ.get("CUDA_VISIBLE_DEVICES")
    if told is not None:
        return tuple(part.strip() for part in told.split(",") if part.strip() not in ("", "-1"))
    found = sorted(path.name.removeprefix("nvidia") for path in Path("/dev").glob("nvidia[0-9]*"))
    return tuple(name for name in found if name.isdigit())


def _available() -> int:
    """Bytes of memory that new processes can have; -1 where the system does not tell."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return -1
    free = [int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:")]
    return min([*free, *_of_the_group()]) if free else -1


def _of_the_group() -> list[int]:
    """What the limit of a container leaves."""
    place = Path("/sys/fs/cgroup")
    try:
        limit = (place / "memory.max").read_text().strip()
        used = int((place / "memory.current").read_text())
        cached = [
            int(line.split()[1])
            for line in (place / "memory.stat").read_text().splitlines()
            if line.startswith("inactive_file ")
        ]
        return [] if limit == "max" else [int(limit) - used + sum(cached)]
    except (OSError, ValueError):
        return []
