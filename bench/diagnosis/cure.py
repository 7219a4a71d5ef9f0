"""What becomes of a sick run when its first finding's first prescription is followed, beside a random remedy.

Each sick run goes through ``vario trial --from-finding RUN:1 --control random``: the script as it is, the
prescription and a method that is meant against none of the findings, on the same three seeds.

Cured means both of these:

- **better**: in the middle one of the pairs the metric is better by a hundredth of itself or more
  (``SOMETHING``), and no seed was lost by the treatment. Where the script as it is breaks on every seed, a
  treated script that does not is better.
- **well**: the finding is gone: it is in most runs of the script as it is and in no more than half of the
  treated ones. Where the finding is about the loss itself or about data that no treatment mends
  (``BY_LOSS``), it is enough that the verdict is "helps" and that a tenth of the metric (``MUCH``) is won.

A trial whose untouched runs do not show the finding judges nobody. Nor does a control that could not be
put in; a prescription that could not is no cure. Prescriptions that only a person can carry out are counted
apart.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.diagnosis.cases import Case
from bench.diagnosis.score import diagnosed, wilson
from vario.nouns import VarioError
from vario.trials.result import Arms, Trial, open_trial

SEEDS = 3
MUCH, SOMETHING = 0.1, 0.01
BY_LOSS = frozenset(
    "learning-rate-too-high learning-rate-too-low learning-rate-decayed-too-early loss-plateau diverging "
    "oscillating-loss underfitting overfitting memorization overconfidence label-noise "
    "outlier-examples".split()
)


@dataclass(frozen=True)
class Arm:
    """One treatment of a trial, against the untouched script."""

    better: bool
    gone: bool
    won: float  # share of the untouched metric, on average; NaN without a pair
    helps: bool
    by_loss: bool

    @property
    def cured(self) -> bool:
        return self.better and (self.gone or (self.by_loss and self.helps and self.won >= MUCH))


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


def judged(trial: Trial, finding: str, name: str) -> Arm | None:
    """What became of the finding under one treatment; None where the trial cannot tell."""
    plain, treated = trial.arms[0], trial.arm(name)
    if not _has(plain, finding) or (treated.role == "control" and not treated.examined):
        return None
    given, made = _finite(plain), _finite(treated)
    pairs = [(given[seed], made[seed]) for seed in given.keys() & made.keys()]
    lost = given.keys() - made.keys()
    before, after = np.array(pairs, float).reshape(-1, 2).T
    gains = (after - before if trial.higher_is_better else before - after) / np.maximum(abs(before), 1e-30)
    verdict = next(verdict for verdict in trial if verdict.treatment == name)
    return Arm(
        better=not lost and (float(np.median(gains)) >= SOMETHING if pairs else bool(made)),
        gone=not _has(treated, finding),
        won=float(gains.mean()) if pairs else float("nan"),
        helps=verdict.verdict == "helps",
        by_loss=finding in BY_LOSS,
    )


def _finite(arm: Arms) -> dict[str, float]:
    return {seed: value for seed, value in arm.values.items() if np.isfinite(value)}


def _has(arm: Arms, finding: str) -> bool:
    return arm.findings.get(finding, 0) > arm.examined / 2


def report(cases: list[Case], kept: Path) -> str:
    """The share cured by the prescription and by the control, of the trials that have been run."""
    rows: list[str] = []
    by_hand: list[str] = []
    cured: dict[str, list[bool]] = {"treatment": [], "control": []}
    for case in cases:
        path = kept / case.name / "cure.json"
        if not path.exists():
            continue
        told = json.loads(path.read_text())
        try:
            trial = open_trial(
                path.parent / "runs" / "trials" / (told.get("trial") or {"trial": ""})["trial"]
            )
        except VarioError as error:
            reason = told["error"] or str(error)
            by_hand.append(f"  {case.name}: {told['finding'] or 'no finding'}: {reason[:120]}")
            continue
        for arm in trial.arms[1:]:
            found = judged(trial, told["finding"], arm.name)
            said = "cannot tell"
            if found is not None:
                cured[arm.role].append(found.cured)
                said = (
                    f"{'cured' if found.cured else 'not cured':9} (better {found.better}, gone {found.gone}, "
                    f"won {found.won:.1%}, helps {found.helps})"
                )
            rows.append(f"  {case.name:34} {told['finding']:28} {arm.role[:9]:9} {arm.name[:34]:34} {said}")
    lines = [f"== cure, {SEEDS} pairs each", *rows]
    names = {"treatment": "first prescription", "control": "random other remedy"}
    for role, found_cured in cured.items():
        if found_cured:
            low, high = wilson(sum(found_cured), len(found_cured))
            lines.append(
                f"{names[role]}: {sum(found_cured)} of {len(found_cured)} cured "
                f"({low:.0%} to {high:.0%} with 95 % confidence)"
            )
    lines += [f"{len(by_hand)} sick runs without a trial:", *by_hand] if by_hand else []
    return "\n".join(lines)
