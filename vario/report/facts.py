"""What a record says about the run itself: its name, command, ending and cost."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from vario.report.words import clean

if TYPE_CHECKING:
    from vario.record import Record, Run

__all__ = [
    "Cost",
    "command_line",
    "cost",
    "ending",
    "instruments",
    "run_name",
    "steps_seen",
    "switched_off",
    "title",
]


@dataclass(frozen=True, slots=True)
class Cost:
    """Own seconds and the seconds of the steps they were spent in; ``share`` is nan where unknown."""

    own: float
    total: float

    @property
    def share(self) -> float:
        return self.own / self.total if self.total > 0 else float("nan")


def run_name(run: Run) -> str:
    """The run's id: the name of its directory."""
    return clean(run.id)


def command_line(run: Run) -> str:
    """The command as the user typed it, "" where it is not known."""
    command = run.meta.get("command") or ""
    return command if isinstance(command, str) else shlex.join(str(part) for part in command)


def title(run: Run) -> str:
    """The command without the interpreter and the folders; the run's name where there is none."""
    words = shlex.split(command_line(run)) if _splits(command_line(run)) else command_line(run).split()
    while words and (words[0].rpartition("/")[2].startswith("python") or words[0] in ("--", "-u")):
        words = words[1:]
    if not words:
        return run_name(run)
    return clean(" ".join([words[0].rpartition("/")[2], *words[1:]]))


def steps_seen(run: Run) -> int:
    """Steps of the longest stream: what a user counts as the steps of the run."""
    return max((record.step_count for record in run.records()), default=0)


def ending(run: Run) -> str:
    """How the run ended: its status, and the error or the exit code where it failed."""
    for event in run.events("exit"):
        if event.data.get("error"):
            return f"{run.status}: {clean(str(event.data['error']), longest=200)}"
        if event.data.get("signal"):
            return f"{run.status} by signal {clean(str(event.data['signal']))}"
        if event.data.get("code"):
            return f"{run.status} with exit code {clean(str(event.data['code']))}"
    return run.status


def cost(run: Run) -> Cost:
    """What vario itself took: from the run's own account, else from the timed steps."""
    account = run.meta.get("cost") or {}
    if isinstance(account, dict) and account.get("total"):
        return Cost(float(account.get("own", 0.0)), float(account["total"]))
    own = total = 0.0
    for record in run.records():
        own += float(np.nansum(record.series("time/own")[1]))
        total += float(np.nansum(record.series("time/step")[1]))
    return Cost(own, total)


def instruments(record: Record) -> dict[str, int]:
    """Each instrument that spoke, and on how many steps it did."""
    read: dict[str, int] = {}
    for name in record.names():
        instrument = name.partition("/")[0]
        wheres = record.wheres(name)
        if wheres:
            read[instrument] = max(read.get(instrument, 0), len(record.series(name, wheres[0])[0]))
    return dict(sorted(read.items()))


def switched_off(run: Run) -> Iterator[tuple[str, str]]:
    """Instruments that were switched off because they failed, with the reason."""
    seen = set()
    for event in run.events("switched_off"):
        name = clean(str(event.data.get("instrument") or event.where))
        if name not in seen:
            seen.add(name)
            yield name, clean(str(event.data.get("error", "")), longest=200)


def _splits(text: str) -> bool:
    try:
        shlex.split(text)
    except ValueError:
        return False
    return True
