"""What a record says about the run itself: its name, command, ending and cost."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from vario.budget import GRANTS
from vario.report.words import clean, duration, number

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
    "unseen",
]


@dataclass(frozen=True, slots=True)
class Cost:
    """Own time as a share of the time of the steps, the largest of all streams, and in seconds together.

    ``later``: the share without the first steps and the half second that a run is granted to begin with.
    """

    share: float
    seconds: float
    streams: int = 1
    later: float = float("nan")

    def __str__(self) -> str:
        share = f"{number(100 * self.share)} %"
        if not (self.share > 0 and np.isfinite(self.seconds)):
            return f"{share} of the time of the steps"
        # of a run of a few dozen quick steps a share says nothing
        if self.share > 1 and self.seconds <= sum(GRANTS.values()):
            share = "within the half second to begin with"
        elif self.streams > 1:
            share = f"at most {share} of the time of the steps of a stream"
        elif round(100 * self.share, 1) > round(100 * self.later, 1):
            share += f"; {number(100 * self.later)} % after the beginning"
        if self.streams > 1:
            return f"{duration(self.seconds)} ({share})"
        return f"{duration(self.seconds)} beside steps of {duration(self.seconds / self.share)} ({share})"


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
    return clean(" ".join([words[0].rpartition("/")[2], *words[1:]]), longest=600)


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
    """What vario itself took: by the session's own account, else from the steps that were timed."""
    told = [row for row in _schedule(run).values() if row.get("overhead") is not None]
    if told:
        seconds = sum(row.get("own_seconds", float("nan")) for row in told)
        later = max(_later(row) for row in told)
        return Cost(max(row["overhead"] for row in told), seconds, len(told), later)
    seconds = total = 0.0
    for record in run.records():
        at, own = record.series("time/own")
        if not len(at):
            continue
        timed, step = record.series("time/step")
        both = np.isin(at, timed)
        seconds += float(np.nansum(own[both]))
        total += float(np.nansum(step[np.isin(timed, at)]))
    return Cost(seconds / total, seconds) if total > 0 else Cost(float("nan"), float("nan"))


def _later(row: Mapping[str, Any]) -> float:
    own, begun = row.get("own_seconds", float("nan")), row.get("begun_seconds", float("nan"))
    return float(row["overhead"] * (1 - begun / own)) if own > 0 else float("nan")


def wall_seconds(run: Run) -> float:
    """From the making of the record to its last flush; nan where unknown."""
    created = run.meta.get("created")
    written = run.last_written
    return written - created if isinstance(created, int | float) and written > created else float("nan")


def instruments(run: Run, record: Record) -> dict[str, int]:
    """Each instrument that spoke, and on how many steps it did."""
    told = _schedule(run).get(record.stream, {}).get("ran")
    if told:
        return {clean(str(name)): int(count) for name, count in sorted(told.items())}
    read: dict[str, int] = {}
    for name in record.names():
        instrument = name.partition("/")[0]
        wheres = record.wheres(name)
        if wheres:
            read[instrument] = max(read.get(instrument, 0), record.count(name, wheres[0]))
    return dict(sorted(read.items()))


def switched_off(run: Run) -> Iterator[tuple[str, str]]:
    """Instruments that were switched off because they failed, with the reason."""
    seen = set()
    for event in run.events("switched_off"):
        name = clean(str(event.data.get("instrument") or event.where))
        if name not in seen:
            seen.add(name)
            yield name, clean(str(event.data.get("error", "")), longest=200)


def unseen(run: Run) -> Iterator[str]:
    """What the run did that cannot be watched, one sentence each."""
    if next(iter(run.events("graph_captured")), None) is not None:
        yield "steps inside a CUDA graph: it is replayed without a word of Python"
    for told in list(run.events("no_room"))[-1:]:
        needed, there = (_gigabytes(told.data.get(name)) for name in ("needed", "there"))
        yield (
            "what needs copies of the weights, gradients of examples or second derivatives: with them"
            f" {needed} would have been held on {clean(str(told.data.get('device', '')))}, of {there}"
        )
    if next(iter(run.events("other_threads")), None) is not None:
        yield "steps of threads that train at the same time: of those, one is heard at a time"
    if run.status == "finished" and not run.records():
        yield (
            "whatever trained here, if anything did. Seen are steps of torch's optimizers, and updates by"
            " hand, in every Python process that inherits PYTHONPATH (not under python -I, -E or -S, env -i"
            " or in a container); torch.func is not, nor a training step that is compiled as a whole"
            " (TORCH_COMPILE_DISABLE=1 shows it). In such a script, `with vario.watch(model, optimizer):`"
            " sees them"
        )


def _gigabytes(bytes: Any) -> str:
    return f"{bytes / 2**30:.3g} GiB" if isinstance(bytes, int | float) else "more"


def _schedule(run: Run) -> dict[str, Any]:
    """What the session noted of each stream: steps, how often each instrument ran, its overhead."""
    told = run.meta.get("schedule")
    return {str(k): v for k, v in told.items() if isinstance(v, dict)} if isinstance(told, dict) else {}


def _splits(text: str) -> bool:
    try:
        shlex.split(text)
    except ValueError:
        return False
    return True
