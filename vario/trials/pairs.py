"""What is to be run: the arms of a trial, and one job per arm and seed, pair by pair.

The seed of a treatment is an offset to the seeds that the script itself sets, so that seed 0 is the script
as it stands. All arms run a seed before any arm runs the next one: whenever the trial stops, pairs are whole.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from vario.nouns import VarioError
from vario.remedies.treatment import Treatment

__all__ = ["BASELINE", "TUNING_SEEDS", "Arm", "Job", "Plan"]

BASELINE = "baseline"
TUNING_SEEDS = 100_000  # tuning takes seeds from here on: they are never judged

Role = Literal["baseline", "treatment", "control"]


@dataclass(frozen=True)
class Arm:
    """The script under one treatment, over all seeds."""

    name: str
    change: Treatment
    role: Role = "treatment"
    note: str = ""  # where the treatment comes from, for the report

    @property
    def is_baseline(self) -> bool:
        return self.role == "baseline"


@dataclass(frozen=True, slots=True)
class Job:
    """One run that is to be made: the command, and the treatment with its seed as JSON."""

    arm: str
    seed: int
    command: tuple[str, ...]
    treatment: str = ""
    metrics: tuple[tuple[str, str], ...] = ()
    key: str = ""  # the same for runs that would be the same; see `ledger`


@dataclass(frozen=True)
class Plan:
    """Arms, baseline first, that are all to be run on `seeds` seeds at most."""

    command: tuple[str, ...]
    arms: tuple[Arm, ...]
    seeds: int
    metrics: tuple[tuple[str, str], ...] = ()
    fingerprint: str = ""
    peeking: bool = True  # a look after every pair, and an end as soon as all is decided
    order: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        names = [arm.name for arm in self.arms]
        object.__setattr__(self, "order", tuple(names))
        if len(self.arms) < 2 or not self.arms[0].is_baseline:
            raise VarioError(
                "a trial compares the script with at least one treatment: add --with METHOD, "
                "--set NAME=VALUE, --from-finding RUN:1 or --auto RUN."
            )
        if len(set(names)) != len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise VarioError(f"the treatment {twice} is given twice; leave one of the two out.")
        if self.seeds < 1:
            raise VarioError(f"a trial needs at least one seed; got --seeds {self.seeds}.")

    @property
    def treatments(self) -> tuple[Arm, ...]:
        """All arms but the baseline."""
        return self.arms[1:]

    def job(self, arm: Arm, seed: int) -> Job:
        """The run of one arm on one seed."""
        from vario.trials.ledger import key_of

        treatment = arm.change.with_seed(seed).to_json()
        key = key_of(self.fingerprint, treatment, self.metrics)
        return Job(arm.name, seed, self.command, treatment, self.metrics, key)

    def jobs(self, arms: Sequence[str], seeds: Sequence[int]) -> Iterator[Job]:
        """Of the arms that are named, seed by seed."""
        for seed in seeds:
            for arm in self.arms:
                if arm.name in arms:
                    yield self.job(arm, seed)
