"""What starts runs: one protocol, whether they run here or on other machines.

Every run is the same unchanged command under the watch of `vario run`, and an ordinary record. A run that
crashes, hangs or is cut short is an outcome with a reason; it never raises.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from vario.trials.pairs import Job

__all__ = ["Limits", "Outcome", "Runner"]


@dataclass(frozen=True, slots=True)
class Limits:
    """When a run is ended by us: `minutes` after its start, or `stall` minutes without a sign of life."""

    minutes: float = float("inf")
    stall: float = 10.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended. `path` is its directory; `reason` says why it gives no value, "" where it does."""

    job: Job
    path: Path | None
    seconds: float
    reason: str = ""
    stopped: bool = False  # at the limit of minutes, as the user asked: it is judged by what it reached
    peak_bytes: int = 0


class Runner(Protocol):
    """Runs jobs, several at once."""

    def has_room(self) -> bool:
        """Whether one more may be started now."""
        ...

    def start(self, job: Job, home: Path) -> None:
        """Begin a run whose directory is made under `home`."""
        ...

    def wait(self, seconds: float) -> Outcome | None:
        """The next run that has ended; None where none has within so many seconds."""
        ...

    def one_by_one(self) -> bool:
        """Start no run beside another from here on; False where that is so already."""
        ...

    def stop(self) -> None:
        """End all that run, and forget them."""
        ...
