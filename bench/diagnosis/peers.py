"""The same table for other tools on the same scripts: who names the fault, who cries wolf, what it costs.

python -m bench.diagnosis.peers --python /path/to/peers/bin/python --only cnn
    runs what is missing of the spine under the peers' own Python (an environment of its own, with torch and
    `pip install torchmortem gradsnitch runmedic trainspotter`), then prints the table

Three of them read logs: they get the loss, the norm of the gradient and the rate of every step, and the
held-out loss, as a user would log them. torchmortem hooks the model. A finding counts where it names the
fault or, generously, what it shows as (``NAMED``); mere information counts for nothing and against nobody.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

WATCHED = Path(__file__).with_name("peers_watched.py").resolve()
PEERS = ("runmedic", "trainspotter", "gradsnitch", "torchmortem")
NAMED = {  # words of their findings that name a fault
    "lr-high": (
        "diverge",
        "non_finite",
        "non-finite",
        "nan/inf",
        "explod",
        "explosion",
        "too high",
        "oscillation",
    ),
    "shuffled-labels": ("overfitting",),
    "shuffled-text": ("plateau", "not learning", "no_learning"),
    "label-noise": ("noise", "label"),
    "nan-data": ("non_finite", "non-finite", "nan/inf", "nan"),
    "frozen": ("stagnant", "frozen", "not updated"),
    "deep-sigmoid": ("vanishing",),
    "dead-relu": ("dead units",),
    "schedule-per-batch": ("schedule collapsed", "decayed", "lr too small", "lr collapsed"),
    "no-zero-grad": ("zero_grad", "accumulat"),
    "double-softmax": ("softmax", "probabilit"),
    "sorted": ("shuffl", "sorted"),
}


def main() -> None:
    """Run what is missing, judge, print."""
    from bench.diagnosis.__main__ import PROGRAMS, _record
    from bench.diagnosis.cases import cases
    from bench.diagnosis.score import diagnosed

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--python", required=True, help="the Python that has the peers")
    parser.add_argument("--home", type=Path, default=Path(".vario/bench-peers"))
    parser.add_argument("--records", type=Path, default=Path(".vario/bench-diagnosis"), help="vario's runs")
    parser.add_argument("--only", default="", help="cases whose name begins with this")
    parser.add_argument("--healthy", type=int, default=3, help="healthy variants of each program")
    parser.add_argument("--no-run", action="store_true", help="judge what is there, run nothing")
    parser.add_argument("--costs", type=int, default=0, help="times that the cost is measured")
    args = parser.parse_args()
    spine = cases(1, spine=True) + [c for c in cases(1) if not c.fault and 0 < c.number < args.healthy]
    chosen = [c for c in spine if c.name.startswith(args.only)]
    rows = []
    for case in chosen:
        place = args.home / case.name
        there = (place / "log.csv").exists()
        if args.no_run and not there:
            continue
        if not there:
            _run(args.python, "both", place, PROGRAMS / f"{case.program}.py", case.arguments)
        said = _judged(args.python, place)
        record = _record(args.records / case.name)
        if record is not None:
            findings = diagnosed(case, record).diagnosis.findings
            said["vario"] = [f.id for f in findings if f.severity != "advice"]
        rows.append((case, said))
    print(_table(rows))
    if args.costs:
        program = PROGRAMS / f"{args.only or 'mlp'}.py"
        print(_costs(args.python, args.home / "costs", program, args.costs))


def _run(
    python: str, how: str, place: Path, program: Path, arguments: list[str], *, under: str = ""
) -> float:
    """Processor seconds of the script from its first step on, watched in one way."""
    place.mkdir(parents=True, exist_ok=True)
    command = [python, str(WATCHED), how, str(place), str(program), *arguments]
    if under:
        command = [under, "run", "--quiet", "--home", str(place / "vario"), *command]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with (place / "output.txt").open("w") as output:
        subprocess.run(command, stdout=output, stderr=subprocess.STDOUT, check=False, env=environment)
    return float(json.loads((place / "seconds.json").read_text()))


def _judged(python: str, place: Path) -> dict[str, list[str]]:
    """What each peer said of a run, gravest first; "broke" where it failed."""
    if not (place / "said.json").exists():
        command = [python, str(WATCHED), "judge", str(place)]
        subprocess.run(command, check=False, capture_output=True)
    found: dict[str, list[str]] = json.loads((place / "said.json").read_text())
    return found


def _table(rows: list[tuple[Any, dict[str, list[str]]]]) -> str:
    from bench.diagnosis.cases import LABELS

    lines = [f"{'tool':14} {'sick':>5} {'named first':>12} {'in three':>9} {'healthy':>8} {'alarmed':>8}"]
    for tool in ("vario", *PEERS):
        known = [(case, said[tool]) for case, said in rows if tool in said]
        sick = [(case, said) for case, said in known if case.fault]
        healthy = [said for case, said in known if not case.fault]
        words = LABELS if tool == "vario" else NAMED
        first, three = (
            sum(any(word in text for text in said[:k] for word in words[case.fault]) for case, said in sick)
            for k in (1, 3)
        )
        alarmed = sum(bool(said) for said in healthy)
        lines.append(f"{tool:14} {len(sick):5d} {first:12d} {three:9d} {len(healthy):8d} {alarmed:8d}")
    broke = [f"{tool} on {case.name}" for case, said in rows for tool in said if "broke" in said[tool]]
    return "\n".join([*lines, *([f"broke: {', '.join(broke)}"] if broke else [])])


def _costs(python: str, place: Path, program: Path, times: int) -> str:
    """Median of the processor time over that of the bare script, taken in turns."""
    vario = str(Path(sys.executable).with_name("vario"))
    ways = {
        "bare": ("bare", ""),
        "log": ("log", ""),
        "torchmortem": ("torchmortem", ""),
        "vario": ("bare", vario),
    }
    took: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(times):
        for name, (how, under) in ways.items():
            took[name].append(_run(python, how, place / name, program, [], under=under))
    ratios = [
        f"{name} {statistics.median(a / b for a, b in zip(seconds, took['bare'], strict=True)):.2f}"
        for name, seconds in took.items()
    ]
    return f"processor time over the bare script, {program.stem}: {', '.join(ratios)}"


if __name__ == "__main__":
    main()
