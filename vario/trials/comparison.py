"""The table of a trial, row by row: what every arm reached on every seed, and what follows from it.

Rows are judged in the order of their seeds, each when all its runs have ended: a fast run must not be
looked at before a slow one of the same row.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from vario.nouns import Verdict
from vario.trials.measure import BUDGETS, Course, pair_values
from vario.trials.paired import Paired
from vario.trials.pairs import BASELINE, Plan
from vario.trials.runner import Outcome
from vario.trials.verdict import judge, more_seeds, optimism

__all__ = ["FEWEST_TO_PEEK", "Table", "Unmeasured", "all_budgets", "settle"]

FEWEST_TO_PEEK = 6  # below, no look that could be repeated can decide; see `sequential`
GRID = 60

Array = NDArray[np.float64]


@dataclass
class Table:
    """Outcomes and courses by arm and seed; `rows` are the seeds that are complete, in order."""

    plan: Plan
    budget: str = "steps"
    margin: float | None = None
    alpha: float = 0.05
    higher_is_better: bool = False
    outcomes: dict[tuple[str, int], Outcome] = field(default_factory=dict)
    courses: dict[tuple[str, int], Course] = field(default_factory=dict)
    reasons: dict[tuple[str, int], str] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)  # arms that cannot be tried, and why
    rows: list[int] = field(default_factory=list)
    _judged: tuple[int, int] = (0, 0)
    _decided: bool = False

    @property
    def arms(self) -> list[str]:
        """The treatments that can be judged."""
        return [arm.name for arm in self.plan.treatments if arm.name not in self.broken]

    def is_complete(self, seed: int) -> bool:
        """Whether every arm that can be tried has ended on this seed."""
        return all((arm, seed) in self.outcomes for arm in (BASELINE, *self.arms))

    def values(self, arm: str, budget: str, versus: str = BASELINE) -> tuple[Array, Array]:
        """The metric of the baseline and of an arm on the complete seeds; NaN where a run gave none."""
        pairs = []
        for seed in self.rows:
            one, other = self.courses.get((versus, seed)), self.courses.get((arm, seed))
            if one is not None and other is not None:
                pairs.append(pair_values(one, other, budget))
            else:
                pairs.append((_own_end(one, budget), _own_end(other, budget)))
        table = np.array(pairs, float).reshape(-1, 2)
        return table[:, 0], table[:, 1]

    def verdicts(self, budget: str = "", *, versus: str = BASELINE) -> list[Verdict]:
        """Of every treatment, in the order of the plan; against the control where `versus` names it."""
        budget = budget or self.budget
        arms = [arm for arm in self.arms if arm != versus]
        differences: dict[str, Array] = {}
        lost_all = np.zeros(len(self.rows))
        for arm in arms:
            one, other = self.values(arm, budget, versus)
            lost_all = np.where(np.isfinite(one), 0.0, np.nan)
            with np.errstate(invalid="ignore"):
                differences[arm] = np.where(np.isfinite(one), other - one, other)
        if not arms:
            return []
        found = judge(
            lost_all, differences, higher_is_better=self.higher_is_better, margin=self.margin,
            alpha=self.alpha, peeking=self.plan.peeking, costs={arm: self.cost(arm, versus) for arm in arms},
        )  # fmt: skip
        return [self._further(verdict, differences[verdict.treatment], lost_all) for verdict in found]

    def is_decided(self) -> bool:
        """Whether nothing more needs to be run."""
        if not self.arms:
            return True
        if len(self.rows) >= 2 and not self.courses:  # whatever it is, more of it will not help
            return True
        if not self.plan.peeking or not self.rows:
            return False
        if self._judged != (len(self.rows), len(self.broken)):
            self._judged = (len(self.rows), len(self.broken))
            self._decided = all(verdict.verdict != "undecided" for verdict in self.verdicts())
        return self._decided

    def paired(self, arm: str, budget: str = "") -> Paired:
        """The pairs of one arm."""
        return Paired.of(*self.values(arm, budget or self.budget))

    def cost(self, arm: str, versus: str = BASELINE) -> tuple[float, float, float]:
        """Seconds of a usual step over those of the baseline: geometric mean over pairs, 95 % interval."""
        ratios = []
        for seed in self.rows:
            one, other = self.courses.get((versus, seed)), self.courses.get((arm, seed))
            if one is not None and other is not None and one.step_seconds > 0 and other.step_seconds > 0:
                ratios.append(math.log(other.step_seconds / one.step_seconds))
        logs = Paired.of(np.zeros(len(ratios)), ratios)
        value, low, high = np.exp([logs.mean, *logs.interval()]).tolist()
        return value, low, high

    def optimism(self) -> float:
        """How much too good the best arm's mean looks, for having been chosen; NaN below two seeds."""
        scores = {BASELINE: np.zeros(0)}
        for arm in self.arms:
            scores[BASELINE], scores[arm] = self.values(arm, self.budget)
        whole = np.isfinite(np.array(list(scores.values()))).all(axis=0)
        if whole.sum() < 2 or len(scores) < 2:
            return float("nan")
        kept = {name: values[whole] for name, values in scores.items()}
        return optimism(kept, higher_is_better=self.higher_is_better)

    def over_training(self, arm: str) -> list[tuple[float, float, float, float]]:
        """(steps, mean difference, low, high) along the budget of steps; Student's interval at each."""
        pairs = [
            (self.courses[BASELINE, seed], self.courses[arm, seed])
            for seed in self.rows
            if (BASELINE, seed) in self.courses and (arm, seed) in self.courses
        ]
        if not pairs:
            return []
        reach = min(min(one.total["steps"], other.total["steps"]) for one, other in pairs)
        first = max(float(course.steps[0]) for pair in pairs for course in pair if len(course.steps))
        rows = []
        for amount in np.linspace(first, reach, GRID) if reach > first else [reach]:
            both = np.array([_at_both(one, other, float(amount)) for one, other in pairs])
            now = Paired.of(both[:, 0], both[:, 1])
            rows.append((float(amount), now.mean, *now.interval()))
        return rows

    def reason(self, arm: str) -> str:
        """Why an arm has no verdict or lost pairs; "" where nothing happened."""
        if arm in self.broken:
            return self.broken[arm]
        mine = [(seed, self.reasons[arm, seed]) for seed in self.rows if (arm, seed) in self.reasons]
        base = [
            (seed, self.reasons[BASELINE, seed]) for seed in self.rows if (BASELINE, seed) in self.reasons
        ]
        parts = []
        for who, lost in (("the treated run", mine), ("the baseline", base)):
            if lost:
                parts.append(f"{who} failed in {len(lost)} of {len(self.rows)} pairs ({lost[0][1]})")
        return "; ".join(parts)

    def _further(self, verdict: Verdict, differences: Array, base: Array) -> Verdict:
        """Seeds that are still needed, counted for a trial that may be looked at after every pair.

        Whoever runs more seeds has looked once already, also where few seeds were judged at once.
        """
        if verdict.verdict != "undecided" or self.plan.peeking:
            return verdict
        paired = Paired.of(base, differences)
        return replace(verdict, more_seeds=more_seeds(paired, margin=self.margin, alpha=self.alpha))


def settle(
    table: Table, measure: Callable[[Outcome], Course], seeds: Sequence[int], *, ready: Callable[[], None]
) -> bool:
    """Measure the rows that have become complete, in order, until all is decided; whether there was one.

    `ready` is called before the first row is measured: the metric is chosen then.
    """
    grown = False
    for seed in seeds[len(table.rows) :]:
        if table.is_decided() or not table.is_complete(seed):
            break
        if not table.rows:
            ready()
        for arm in (BASELINE, *table.arms):
            outcome = table.outcomes[arm, seed]
            reason = outcome.reason
            if not reason:
                try:
                    table.courses[arm, seed] = measure(outcome)
                except Unmeasured as error:
                    reason = str(error)
            if not reason and not math.isfinite(_own_end(table.courses[arm, seed], "steps")):
                reason = "diverged: its metric is not a number"
            if reason:
                table.reasons[arm, seed] = reason
        table.rows.append(seed)
        grown = True
    return grown


class Unmeasured(Exception):  # noqa: N818 - an answer, not a failure of ours
    """A run that ended well and yet has no metric; the text is the reason."""


def all_budgets(table: Table) -> Mapping[str, list[Verdict]]:
    """The verdicts at equal steps, at equal examples and at equal time."""
    return {budget: table.verdicts(budget) for budget in BUDGETS}


def _own_end(course: Course | None, budget: str) -> float:
    return float("nan") if course is None else course.at(budget, course.total[budget])


def _at_both(one: Course, other: Course, steps: float) -> tuple[float, float]:
    if one.every_step and other.every_step:
        both = np.intersect1d(one.steps, other.steps)
        if len(both):
            one, other = one.of_steps(both), other.of_steps(both)
    return one.at("steps", steps), other.at("steps", steps)
