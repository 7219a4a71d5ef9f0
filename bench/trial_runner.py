"""What the local runner costs: small runs one after the other without vario, and as jobs of a trial.

    OMP_NUM_THREADS=1 python bench/trial_runner.py [--runs 8] [--jobs 2] [--rounds 2]

Prints, per round and in all, the wall-clock time of the jobs over the bare time divided by the number of
jobs at once; 1 is perfect. Bare runs and jobs take turns, so that a busy machine is busy for both. Beside it
the processor time of the jobs and of the runner itself over that of the bare runs: it does not move with what
else the machine does, and says what watching costs.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

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
    parser.add_argument("--rounds", type=int, default=2)
    given = parser.parse_args()
    each = given.runs // given.rounds
    bare = busy = bare_work = busy_work = 0.0
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        script = place / "train.py"
        script.write_text(SCRIPT)
        for turn in range(given.rounds):
            start, work = time.perf_counter(), _work()
            for _ in range(each):
                subprocess.run([sys.executable, str(script)], check=True)
            middle, work_middle = time.perf_counter(), _work()
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
            run_jobs(
                iter(jobs), LocalRunner(given.jobs), home=place / f"runs{turn}",
                ledger=Ledger(place / "ledger.jsonl", fresh=True),
                ended=outcomes.append,
            )  # fmt: skip
            end, work_end = time.perf_counter(), _work()
            assert not any(outcome.reason for outcome in outcomes), outcomes
            assert len({outcome.path for outcome in outcomes}) == each, "a run was taken for another one"
            bare, busy = bare + middle - start, busy + end - middle
            bare_work, busy_work = bare_work + work_middle - work, busy_work + work_end - work_middle
            ratio = (end - middle) / ((middle - start) / given.jobs)
            print(f"round {turn}: bare {middle - start:.1f} s, jobs {end - middle:.1f} s, ratio {ratio:.3f}")
    print(
        f"all: bare {bare:.1f} s, jobs {busy:.1f} s, ratio {busy / (bare / given.jobs):.3f}; processor time "
        f"{bare_work:.1f} s and {busy_work:.1f} s, ratio {busy_work / bare_work:.3f}"
    )


def _work() -> float:
    """Seconds of processor time of this process and of those that it started and that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


if __name__ == "__main__":
    main()
