"""What the local runner costs: small runs one after the other without vario, and as jobs of a trial.

    OMP_NUM_THREADS=1 python bench/trial_runner.py [--runs 8] [--jobs 2] [--rounds 1]

Prints, per round and in all, the wall-clock time of the jobs over the bare time divided by the number of
jobs at once; 1 is perfect. Bare runs and jobs take turns, so that a busy machine is busy for both. Bare runs
are also started as many at once as the jobs: cores that share caches or execution units slow each other down
with no vario about; what the jobs take over that is the runner's and the watching's own. Last the same for
processor time.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from vario.remedies.treatment import Treatment
from vario.trials.conduct import run_jobs
from vario.trials.ledger import Ledger
from vario.trials.local import LocalRunner
from vario.trials.pairs import Job
from vario.trials.runner import Outcome

SCRIPT = """
import torch
torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear(256, 512), torch.nn.ReLU(), torch.nn.Linear(512, 10))
optimizer = torch.optim.AdamW(model.parameters())
for step in range(1500):
    x = torch.randn(128, 256)
    optimizer.zero_grad()
    loss = torch.nn.functional.cross_entropy(model(x), torch.randint(10, (128,)))
    loss.backward()
    optimizer.step()
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=8)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=1)
    given = parser.parse_args()
    each = given.runs // given.rounds
    alone, together, jobs_took = Took(), Took(), Took()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        script = place / "train.py"
        script.write_text(SCRIPT)
        for turn in range(given.rounds):
            begun = Took.now()
            for _ in range(each):
                subprocess.run([sys.executable, str(script)], check=True)
            alone_now = Took.now() - begun
            begun = Took.now()
            for first in range(0, each, given.jobs):
                at_once = range(first, min(first + given.jobs, each))
                running = [subprocess.Popen([sys.executable, str(script)]) for _ in at_once]
                assert not any(process.wait() for process in running)
            together_now = Took.now() - begun
            jobs = [
                Job(
                    "baseline",
                    seed,
                    (str(script),),
                    Treatment("baseline").with_seed(seed).to_json(),
                    key=f"{turn} {seed}",
                )
                for seed in range(each)
            ]
            outcomes: list[Outcome] = []
            begun = Took.now()
            run_jobs(
                iter(jobs), LocalRunner(given.jobs), home=place / f"runs{turn}",
                ledger=Ledger(place / "ledger.jsonl", fresh=True),
                ended=outcomes.append,
            )  # fmt: skip
            jobs_now = Took.now() - begun
            assert not any(outcome.reason for outcome in outcomes), outcomes
            assert len({outcome.path for outcome in outcomes}) == each, "a run was taken for another one"
            _print(f"round {turn}", alone_now, together_now, jobs_now, given.jobs)
            alone, together, jobs_took = alone + alone_now, together + together_now, jobs_took + jobs_now
    _print("all", alone, together, jobs_took, given.jobs)


class Took(NamedTuple):
    """Seconds that passed, and seconds of processor time of this process and of its ended children."""

    wall: float = 0.0
    work: float = 0.0

    @classmethod
    def now(cls) -> Took:
        used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return cls(time.perf_counter(), sum(one.ru_utime + one.ru_stime for one in used))

    def __add__(self, other: object) -> Took:
        assert isinstance(other, Took)
        return Took(self.wall + other.wall, self.work + other.work)

    def __sub__(self, other: Took) -> Took:
        return Took(self.wall - other.wall, self.work - other.work)


def _print(name: str, alone: Took, together: Took, jobs: Took, at_once: int) -> None:
    print(
        f"{name}: bare {alone.wall:.1f} s one by one, {together.wall:.1f} s {at_once} at once; jobs "
        f"{jobs.wall:.1f} s: {jobs.wall / (alone.wall / at_once):.3f} of one by one / {at_once}, "
        f"{jobs.wall / together.wall:.3f} of {at_once} at once; processor time "
        f"{jobs.work / alone.work:.3f} and {jobs.work / together.work:.3f}",
        flush=True,
    )


if __name__ == "__main__":
    main()
