"""A runner that draws what runs would have given: whole trials in milliseconds, through the whole engine."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np

from vario.trials.asked import Asked
from vario.trials.measure import Course, Metric
from vario.trials.pairs import Job
from vario.trials.result import Trial
from vario.trials.runner import Outcome
from vario.trials.trial import Progress, conduct

LOSS = Metric("loss", "loss/train", source="simulated")
Value = Callable[[str, int], float | str]  # of arm and seed; a text is the reason of a failure


class Simulated:
    """Ends the jobs under way in any order, as runs of different length do."""

    def __init__(self, value: Value, *, jobs: int = 3, order: int = 0) -> None:
        self.value, self.jobs, self._order = value, jobs, random.Random(order)
        self.running: list[Job] = []
        self.started: list[tuple[str, int]] = []
        self.stopped: list[Job] = []

    def has_room(self) -> bool:
        return len(self.running) < self.jobs

    def start(self, job: Job, home: Path) -> None:
        self.started.append((job.arm, job.seed))
        self.running.append(job)

    def wait(self, seconds: float) -> Outcome | None:
        job = self.running.pop(self._order.randrange(len(self.running)))
        value = self.value(job.arm, job.seed)
        return Outcome(job, None, 1.0, value if isinstance(value, str) else "")

    def one_by_one(self) -> bool:
        return False

    def stop(self) -> None:
        self.stopped += self.running
        self.running.clear()


def course(value: float, *, steps: float = 100.0, step_seconds: float = 0.1) -> Course:
    at = np.array([steps / 2, steps])
    total = {"steps": steps, "examples": 32 * steps, "time": step_seconds * steps}
    values = np.array([value + 1, value])
    return Course(at, values, 32 * at, step_seconds * at, total, 1.0, 0.5, step_seconds)


def simulate(
    value: Value,
    home: Path,
    *,
    with_: tuple[str, ...] = ("AdamW",),
    runner: Simulated | None = None,
    tell: Callable[[Progress], None] | None = None,
    course_of: Callable[[str, int], Course] | None = None,
    **asked: object,
) -> Trial:
    """A trial of a script that is never run."""
    script = home / "train.py"
    if not script.exists():
        script.write_text("")
    words = {"fresh": True, **asked}
    request = Asked([str(script)], with_, **words)  # type: ignore[arg-type]

    def measure(outcome: Outcome, metric: Metric) -> Course:
        if course_of is not None:
            return course_of(outcome.job.arm, outcome.job.seed)
        found = value(outcome.job.arm, outcome.job.seed)
        assert not isinstance(found, str)
        return course(found)

    return conduct(
        request, runner or Simulated(value), home=home / "runs", tell=tell, measure=measure, metric=LOSS
    )
