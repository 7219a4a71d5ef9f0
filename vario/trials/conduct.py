"""Gets jobs done: starts them in order as there is room, skips those that are done, and tells each end."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

from vario.trials.ledger import Ledger
from vario.trials.pairs import Job
from vario.trials.runner import Outcome, Runner

__all__ = ["run_jobs"]

TICK = 0.25


def run_jobs(
    jobs: Iterator[Job],
    runner: Runner,
    *,
    home: Path,
    ledger: Ledger,
    ended: Callable[[Outcome], None],
    enough: Callable[[], bool] = lambda: False,
    tick: Callable[[tuple[Job, ...]], None] = lambda running: None,
    mixed: Callable[[Outcome], bool] = lambda outcome: False,
) -> None:
    """Run all jobs, or until `enough()`; whatever still runs then is ended.

    `ended` is called once per job, also for those that the ledger has; `tick` several times a second.
    After the first outcome that is `mixed` with a run beside it, what ran then is run again, one by one.
    """
    running: dict[tuple[str, int], Job] = {}
    waiting: Job | None = next(jobs, None)
    try:
        while not enough() and (waiting is not None or running):
            while waiting is not None and not enough():
                known = ledger.get(waiting)
                if known is not None:
                    ended(known)
                elif runner.has_room():
                    runner.start(waiting, home)
                    running[waiting.arm, waiting.seed] = waiting
                else:
                    break
                waiting = next(jobs, None)
            tick(tuple(running.values()))
            outcome = runner.wait(TICK) if running else None
            if outcome is not None and mixed(outcome) and runner.one_by_one():
                runner.stop()
                jobs = itertools.chain(running.values(), [waiting] if waiting else [], jobs)
                running, waiting = {}, next(jobs, None)
            elif outcome is not None:
                del running[outcome.job.arm, outcome.job.seed]
                ended(outcome)
                ledger.put(outcome)
    finally:
        runner.stop()
