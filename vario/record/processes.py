"""Who writes a record, and whether that process still lives.

A process is its host, its number and the moment it started: numbers alone are used again. On the same
machine the process table answers. From another one (a shared disk, another container) only the time
since the last flush can, so a silence of ten minutes counts as death.
"""

from __future__ import annotations

import os
import platform
import time
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

SILENCE_SECONDS = 600.0


class Process(NamedTuple):
    """`host` is the machine, its boot and the process namespace; `started` is "" where it is unknown."""

    host: str
    pid: int
    started: str


def myself() -> Process:
    """This process."""
    return _process(os.getpid())


def is_alive(process: Process, heartbeat: float) -> bool:
    """Whether `process`, which last flushed at `heartbeat` (seconds since 1970), is still there."""
    if process.host != _host():
        return time.time() - heartbeat < SILENCE_SECONDS
    try:
        os.kill(process.pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it is there and belongs to somebody else
        pass
    return _started(process.pid) == process.started


@lru_cache(maxsize=2)  # one for this process, one more after a fork
def _process(pid: int) -> Process:
    return Process(_host(), pid, _started(pid))


@lru_cache(maxsize=1)
def _host() -> str:
    parts = [platform.node()]
    try:
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        parts.append(os.readlink("/proc/self/ns/pid"))
    except OSError:  # not Linux: the name has to do
        pass
    return " ".join(parts)


def _started(pid: int) -> str:
    """The start of a process in ticks since boot; a zombie has ended, though its number is still taken."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "ended" if fields[0] in "ZX" else fields[19]
