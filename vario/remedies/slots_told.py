"""What became of a treatment: told into the record by the treated process, and read back by a trial.

Three kinds of events, each with the slot as its place:

- ``treatment``: something was put in; data say what was replaced by what, and where the script called.
- ``treatment_failed``: it could not be put in; the process ends with exit code 97 and the reason.
- ``treatment_unused``: at the end of a process the slot had not been reached. Every process of a run
  tells this for itself (the starter of a torchrun makes no optimizer), so a slot is unused only where no
  process told ``treatment`` of it.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from vario.record.reader import Run
    from vario.remedies.treatment import Treatment

__all__ = ["FAILED", "Told", "TreatmentFailed", "call_site", "went_wrong"]

FAILED = 97  # the exit code of a process that could not be treated

Teller = Callable[[str, str, dict[str, Any]], None]


class TreatmentFailed(SystemExit):
    """A treatment that cannot be put in ends the process: going on would compare a script with itself."""


class Told:
    """What has been told of one treatment in one process."""

    def __init__(self, name: str, tell: Teller | None = None, *, until: Collection[str] = ()) -> None:
        self.name = name
        self.until = until  # once all of these slots are reached the process ends, well: it was a try
        self._tell = tell or _into_the_record
        self._said: set[str] = set()
        self.applied: set[str] = set()
        self.waiting: dict[str, str] = {}  # slots that must be reached, with what was not found

    def expects(self, slot: str, reason: str) -> None:
        """The slot must be reached before the end; ``reason`` says what it means where it is not."""
        self.waiting[slot] = reason

    def put_in(self, slot: str, data: Mapping[str, Any]) -> None:
        """Something was put in; told once for each kind of it."""
        self.applied.add(slot)
        self.waiting.pop(slot, None)
        key = json.dumps([slot, {k: v for k, v in data.items() if k != "call"}], default=str, sort_keys=True)
        if key not in self._said:
            self._said.add(key)
            self._tell("treatment", slot, {"treatment": self.name, "slot": slot, **data})
        if self.until and not self.waiting and self.applied.issuperset(self.until):
            raise SystemExit(0)

    def fail(self, slot: str, reason: str) -> NoReturn:
        """Tell why it cannot be put in, and end the process."""
        self.waiting.clear()
        self._tell("treatment_failed", slot, {"treatment": self.name, "slot": slot, "reason": reason})
        sys.stderr.write(f"vario: the treatment {self.name!r} cannot be put in ({slot}): {reason}\n")
        sys.stderr.flush()
        raise TreatmentFailed(FAILED)

    def end(self) -> None:
        """Tell what was not reached."""
        waiting, self.waiting = self.waiting, {}
        for slot, reason in waiting.items():
            self._tell("treatment_unused", slot, {"treatment": self.name, "slot": slot, "reason": reason})


def went_wrong(run: Run, treatment: Treatment) -> str:
    """Why the run is not one of ``treatment``: what failed, else what was never reached; "" where it is one.

    An identity treatment cannot go wrong.
    """
    if treatment.is_identity:
        return ""
    for event in run.events("treatment_failed"):
        return f"{event.data.get('slot')}: {event.data.get('reason')}"
    applied = {str(event.data.get("slot")) for event in run.events("treatment")}
    for event in run.events("treatment_unused"):
        if event.data.get("slot") not in applied:
            return f"{event.data.get('slot')} was not reached: {event.data.get('reason')}"
    missing = [slot for slot in treatment.slots() if slot not in applied]
    return f"nothing was put in at {', '.join(missing)}; the run may have been killed" if missing else ""


def call_site() -> str:
    """File and line of the innermost caller that is neither torch's nor ours."""
    ours = str(Path(__file__).parent.parent)
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        file = frame.f_code.co_filename
        if not file.startswith(ours) and f"{os.sep}torch{os.sep}" not in file and not file.startswith("<"):
            return f"{file}:{frame.f_lineno}"
        frame = frame.f_back
    return ""


def _into_the_record(kind: str, where: str, data: dict[str, Any]) -> None:
    from vario.nouns import VarioError
    from vario.record.store import RecordWriter

    place = os.environ.get("VARIO_RUN")
    if not place:
        return
    try:
        writer = RecordWriter(Path(place))  # its own: the session's may not be open yet
        writer.event("", -1, kind, where, data)
        writer.close()
    except VarioError as error:
        sys.stderr.write(f"vario: {error}\n")
