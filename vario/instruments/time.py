"""Where the seconds of the previous step went: the step, its wait for data, and vario itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from vario.capture.moment import Moment
from vario.nouns import Reading

CARD = {
    "papers": (),
    "cost": "nothing",
    "checked": "closed form: a step that sleeps",
    "changed": "",
}


@dataclass(frozen=True)
class Time:
    """Seconds of wall clock; on an accelerator a step ends when its work is queued."""

    name: str = "time"
    needs: frozenset[str] = frozenset({"times"})

    def read(self, moment: Moment) -> Iterator[Reading]:
        if "times" not in moment:
            return
        for part in ("step", "data_wait", "own"):
            if moment["times"].get(part) is not None:
                yield moment.reading(f"time/{part}", float(moment["times"][part]))
