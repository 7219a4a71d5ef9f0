"""What the user asked for, and the plan that follows: which arms, on which seeds, looked at how often."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vario.nouns import VarioError
from vario.remedies.treatment import Treatment
from vario.trials.comparison import FEWEST_TO_PEEK
from vario.trials.ledger import fingerprint
from vario.trials.measure import BUDGETS
from vario.trials.pairs import BASELINE, Arm, Plan
from vario.trials.runner import Limits

__all__ = ["Asked"]

SEEDS = 10


@dataclass(frozen=True)
class Asked:
    """The arguments of `vario trial` and of `vario.trial`; `cli_trial` says what each of them means."""

    command: Sequence[str] = ()
    with_: Sequence[str] = ()
    set_: Sequence[str] = ()
    from_finding: Sequence[str] = ()
    auto: str = ""
    control: str = ""  # "random", "none", or "" for random where `auto` is given
    seeds: int = SEEDS
    metric: str = ""
    higher_is_better: bool | None = None
    budget: str = "steps"
    minutes: float = math.inf
    stall: float = 10.0
    tune: Sequence[str] = ()
    tuning_seeds: int = 2
    margin: float | None = None
    all_seeds: bool = False
    fresh: bool = False
    retry: bool = False

    def __post_init__(self) -> None:
        if self.budget not in BUDGETS:
            raise VarioError(f"--budget {self.budget}: write one of {', '.join(BUDGETS)}.")
        if self.control not in ("", "random", "none"):
            raise VarioError(f"--control {self.control}: write random or none.")
        if self.margin is not None and not self.margin > 0:
            raise VarioError(
                f"--margin {self.margin:g}: write a difference above 0 in the unit of the metric."
            )
        if not self.minutes > 0 or not self.stall > 0:
            raise VarioError(f"--minutes {self.minutes:g} --stall {self.stall:g}: both are above 0.")
        if self.seeds < 1:
            raise VarioError(f"--seeds {self.seeds}: a trial needs at least one.")

    @property
    def limits(self) -> Limits:
        """When a run is ended."""
        return Limits(self.minutes, self.stall)

    @property
    def metric_name(self) -> str:
        """The name of the metric without the regular expression behind it."""
        return self.metric.partition("=")[0]

    @property
    def patterns(self) -> tuple[tuple[str, str], ...]:
        """The regular expression of the metric, where it has one."""
        name, equals, pattern = self.metric.partition("=")
        if not equals:
            return ()
        try:
            groups = re.compile(pattern).groups
        except re.error as error:
            raise VarioError(f"--metric {self.metric}: not a regular expression: {error}.") from None
        if not (name and groups):
            raise VarioError(
                f"--metric {self.metric}: write NAME=REGEX with one group around the number, such as "
                r"'accuracy=accuracy: ([0-9.]+)'."
            )
        return ((name, pattern),)

    @property
    def peeking(self) -> bool:
        """Whether the trial is looked at after every pair, and ends as soon as all is decided."""
        return not self.all_seeds and self.seeds >= FEWEST_TO_PEEK

    def plan(self, home: Path | None = None) -> Plan:
        """Arms, baseline first; raises VarioError for what cannot be tried. Runs are looked for in `home`."""
        arms = [
            *(Arm(made.name, made) for made in map(Treatment.parse, self.with_)),
            *(Arm(made.name, made) for made in map(Treatment.parse_set, self.set_)),
        ]
        command, run = tuple(self.command), None
        if self.auto or self.from_finding:
            from vario.record.reader import open_run
            from vario.record.runs import find_run
            from vario.trials.prescribed import command_of, from_findings, of_finding

            for reference in self.from_finding:
                treatment, finding = of_finding(reference, home)
                arms.append(Arm(treatment.name, treatment, note=f"prescribed for {finding}"))
            run = open_run(find_run(self.auto or self.from_finding[0].rpartition(":")[0], home))
            if self.auto:
                arms += [Arm(t.name, t, note=f"prescribed for {why}") for t, why in from_findings(run)]
            command = command or command_of(run)
        if not command:
            raise VarioError("name the script: vario trial train.py --with METHOD.")
        arms = list({arm.name: arm for arm in reversed(arms)}.values())[::-1]
        base = fingerprint(command)
        if self.control == "random" or (self.auto and not self.control):
            from vario.trials.prescribed import control_for

            drawn = control_for(run, [arm.name for arm in arms], salt=base)
            arms.append(Arm(drawn.name, drawn, "control", "drawn at random, as a control"))
        if run is not None:
            run.close()
        _check_script(command)
        baseline = Arm(BASELINE, Treatment(BASELINE), "baseline")
        return Plan(command, (baseline, *arms), self.seeds, self.patterns, base, self.peeking)


def _check_script(command: Sequence[str]) -> None:
    script = command[0]
    if script.endswith(".py") and not Path(script).is_file():
        raise VarioError(f"there is no script {script} in {os.getcwd()}.")
