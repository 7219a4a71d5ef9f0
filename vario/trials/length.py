"""How long a run is, for methods that count its steps or epochs: read from the baseline's first run."""

from __future__ import annotations

from dataclasses import replace

from vario.nouns import VarioError
from vario.record.reader import Run, open_run
from vario.remedies.changes import loader
from vario.trials.measure import examples_seen
from vario.trials.pairs import Arm
from vario.trials.runner import Outcome

__all__ = ["filled", "length_of", "tried"]


def length_of(run: Run) -> tuple[int, int]:
    """Steps and epochs of a run; of one that draws without an end, how often it went through its data."""
    record, streams = run.main, run.records()  # one batch may train several models: one of them is told
    starts = max(len({event.step for event in stream.events("epoch")}) for stream in streams)
    size = next((known["length"] for known in map(loader, streams) if known.get("length")), None)
    if starts == 1 and size:
        seen = float(examples_seen(record, record.step_count)[-1])
        starts = round(seen / size) if seen == seen else 1
    return record.step_count, max(1, starts)


def filled(arms: tuple[Arm, ...], first: Outcome) -> tuple[Arm, ...]:
    """The arms with what their methods count and the user left open, for runs as long as this one."""
    if first.reason or first.path is None:
        arm = next(arm for arm in arms if arm.change.uncounted)
        raise VarioError(
            f"--with {arm.name}: how many {arm.change.uncounted[0]} there are could not be seen: the "
            f"baseline's first run gave nothing ({first.reason or 'it has no record'}). Name the number: "
            f"{arm.change.uncounted[0]}=N."
        )
    with open_run(first.path) as run:
        steps, epochs = length_of(run)
    return tuple(_filled(arm, steps, epochs) for arm in arms)


def tried(arm: Arm) -> Arm:
    """The arm as it is put in once, to see whether it can be: what its methods count is not known yet."""
    return replace(arm, change=replace(arm.change.of_length(steps=1000, epochs=100), only_tried=True))


def _filled(arm: Arm, steps: int, epochs: int) -> Arm:
    change = arm.change.of_length(steps=steps, epochs=epochs)
    if change == arm.change:
        return arm
    given = dict(pair for use in arm.change.methods for pair in use.options)
    new = dict(pair for use in change.methods for pair in use.options)
    said = ", ".join(f"{key}={value}" for key, value in new.items() if key not in given)
    note = f"{said}, as in the baseline's first run"
    return replace(arm, change=change, note=f"{arm.note}; {note}" if arm.note else note)
