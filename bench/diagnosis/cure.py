"""What becomes of a sick run when its first finding's first prescription is followed, beside a random remedy.

Each sick run goes through ``vario trial --from-finding RUN:1 --control random``: the script as it is, the
prescription and a method that is meant against none of the findings, on the same three seeds. Cured means
that the metric is better on average, and that the finding is gone from most of the treated runs or
the trial's verdict is "helps". Prescriptions that only a person can carry out are counted apart.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.diagnosis.cases import Case
from bench.diagnosis.score import diagnosed, wilson

SEEDS = 3


@dataclass(frozen=True)
class Arm:
    """One treatment of a trial, against the untouched script."""

    name: str
    better: bool
    gone: bool
    helps: bool

    @property
    def cured(self) -> bool:
        return self.better and (self.gone or self.helps)


def cure(case: Case, record: Path, kept: Path) -> None:
    """Runs the trial of one sick run and keeps its JSON, or the reason why there is none."""
    kept.mkdir(parents=True, exist_ok=True)
    first = diagnosed(case, record).diagnosis.findings[:1]
    told: dict[str, Any] = {"finding": first[0].id if first else "", "error": "nothing was found"}
    if first:
        done = subprocess.run(
            [
                str(Path(sys.executable).with_name("vario")), "trial", "--from-finding", f"{record}:1",
                "--control", "random", "--seeds", str(SEEDS), "--all-seeds", "--jobs", "1", "--json",
                "--home", str(kept / "runs"),
            ],
            capture_output=True, text=True, check=False, timeout=3600,
        )  # fmt: skip
        error = done.stderr.strip().rpartition("\n")[2]
        told["error"] = error if done.returncode else ""
        told["trial"] = None if done.returncode else json.loads(done.stdout)
    (kept / "cure.json").write_text(json.dumps(told))


def report(cases: list[Case], kept: Path) -> str:
    """The share cured by the prescription and by the control, of the trials that have been run."""
    rows: list[str] = []
    by_hand: list[str] = []
    prescribed: list[bool] = []
    control: list[bool] = []
    for case in cases:
        path = kept / case.name / "cure.json"
        if not path.exists():
            continue
        told = json.loads(path.read_text())
        if not told.get("trial"):
            by_hand.append(f"  {case.name}: {told['finding'] or 'no finding'}: {told['error'][:120]}")
            continue
        for verdict in told["trial"]["verdicts"]:
            arm = _arm(told, verdict)
            (control if verdict["role"] == "control" else prescribed).append(arm.cured)
            rows.append(
                f"  {case.name:34} {told['finding']:28} {verdict['role'][:9]:9} {arm.name[:34]:34} "
                f"{'cured' if arm.cured else 'not cured':9} (better {arm.better}, gone {arm.gone}, "
                f"helps {arm.helps})"
            )
    lines = [f"== cure, {SEEDS} pairs each", *rows]
    for name, cured in (("first prescription", prescribed), ("random other remedy", control)):
        if cured:
            low, high = wilson(sum(cured), len(cured))
            lines.append(
                f"{name}: {sum(cured)} of {len(cured)} cured ({low:.0%} to {high:.0%} with 95 % confidence)"
            )
    lines += [f"{len(by_hand)} sick runs without a trial:", *by_hand] if by_hand else []
    return "\n".join(lines)


def _arm(told: dict[str, Any], verdict: dict[str, Any]) -> Arm:
    trial = told["trial"]
    difference = verdict["difference"]["value"]
    failed = [f["treatment"] for f in trial["failures"]]
    if difference is None:  # no pair could be compared: better only where the untouched script alone broke
        better = "baseline" in failed and verdict["treatment"] not in failed
    else:
        better = difference > 0 if trial["higher_is_better"] else difference < 0
    gone = verdict["findings"].get(told["finding"], 0) <= SEEDS // 2
    return Arm(verdict["treatment"], better, gone, verdict["verdict"] == "helps")
