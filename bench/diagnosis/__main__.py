"""Train every case under ``vario run`` (none is run twice), diagnose it, and print how right that was.

python -m bench.diagnosis --spine --seeds 1
python -m bench.diagnosis --jobs 2 --seeds 3
python -m bench.diagnosis --half held-out --cure
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bench.diagnosis.calibrate import fitted
from bench.diagnosis.cases import Case, cases
from bench.diagnosis.cure import cure
from bench.diagnosis.cure import report as cure_report
from bench.diagnosis.score import Outcome, diagnosed, report

PROGRAMS = Path(__file__).parent / "programs"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.diagnosis", description=__doc__)
    parser.add_argument(
        "--home", type=Path, default=Path(".vario/bench-diagnosis"), help="where the runs are kept"
    )
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--spine", action="store_true", help="eleven faults and plain healthy runs only")
    parser.add_argument("--only", default="", help="cases whose name holds this")
    parser.add_argument(
        "--kind", choices=("all", "plain", "mild", "pairs"), default="all",
        help="plain: one fault at full strength, or none",
    )  # fmt: skip
    parser.add_argument("--half", choices=("all", "tuning", "held-out"), default="all")
    parser.add_argument("--cure", action="store_true", help="also try the first prescription of sick runs")
    parser.add_argument("--calibrate", action="store_true", help="fit confidence on --half tuning")
    parser.add_argument("--no-run", action="store_true", help="judge what is there, run nothing")
    parser.add_argument(
        "--all", action="store_true", dest="show_all", help="show every case, not only the wrong ones"
    )
    args = parser.parse_args()
    chosen = [c for c in cases(args.seeds, spine=args.spine) if args.only in c.name]
    chosen = [c for c in chosen if args.half == "all" or c.held_out == (args.half == "held-out")]
    if args.kind != "all":
        chosen = [c for c in chosen if args.kind == ("pairs" if c.pair else "mild" if c.mild else "plain")]
    if not args.no_run:
        run_missing(chosen, args.home, args.jobs)
    there = [(c, found) for c in chosen if (found := _record(args.home / c.name)) is not None]
    if args.cure:
        sick = [(c, record) for c, record in there if c.fault]
        for case, record in [] if args.no_run else sick:
            kept = args.home / "cures" / case.name
            if not (kept / "cure.json").exists():
                cure(case, record, kept)
                print(f"{case.name}: trial done", file=sys.stderr, flush=True)
        print(cure_report([case for case, _ in sick], args.home / "cures"))
        return
    outcomes: list[Outcome] = []
    for case, record in there:
        outcomes.append(diagnosed(case, record))
    if args.calibrate:
        print(fitted(outcomes), end="")
        return
    print(report(outcomes, show_all=args.show_all))
    if len(there) < len(chosen):
        print(f"{len(chosen) - len(there)} cases have no record")


def run_missing(chosen: list[Case], home: Path, jobs: int) -> None:
    """Runs the cases without a finished record, ``jobs`` at a time, and says how far it is."""
    missing = [c for c in chosen if not (home / c.name / "done").exists()]
    start, done = time.monotonic(), 0

    def run(case: Case) -> None:
        nonlocal done
        took = train(case, home / case.name)
        done += 1
        left = (time.monotonic() - start) / done * (len(missing) - done)
        print(
            f"[{done}/{len(missing)}] {case.name} {took:.0f} s, about {left / 60:.0f} min left",
            file=sys.stderr,
            flush=True,
        )

    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(run, missing))


def train(case: Case, home: Path) -> float:
    """One run from the user's side: the unchanged script under ``vario run``. Returns its seconds."""
    if home.exists():
        shutil.rmtree(home)
    home.mkdir(parents=True)
    start = time.monotonic()
    vario = Path(sys.executable).with_name("vario")
    command = [
        str(vario),
        "run",
        "--home",
        str(home),
        "--quiet",
        f"{PROGRAMS / case.program}.py",
        *case.arguments,
    ]
    with (home / "output.txt").open("w") as output:
        subprocess.run(
            command, stdout=output, stderr=subprocess.STDOUT, check=False, timeout=600,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )  # fmt: skip
    (home / "done").touch()
    return time.monotonic() - start


def _record(home: Path) -> Path | None:
    found = sorted(home.rglob("record.sqlite"))
    return found[0].parent if found and (home / "done").exists() else None


if __name__ == "__main__":
    main()
