"""The nouns that cross rooms: what was read, what was found, what to do about it.

Frozen, plain, standard library only, so that every room can name them without a cost.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

Severity = Literal["error", "warning", "advice"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "advice")

__all__ = [
    "SEVERITIES",
    "Diagnosis",
    "Evidence",
    "Finding",
    "NotApplicable",
    "Prescription",
    "Reading",
    "Severity",
    "VarioError",
    "Verdict",
]


class VarioError(Exception):
    """A mistake that the user can mend; its text says what happened, where, and the way out."""


class NotApplicable(Exception):  # noqa: N818 - an answer of a rule, not a failure
    """A rule cannot know; the text is the reason, and it is shown to the user."""


@dataclass(frozen=True, slots=True)
class Reading:
    """One measured value of one step.

    ``series`` is ``instrument/quantity``; ``where`` is the layer, parameter or group as torch
    prints it, or "" for the whole model; ``value`` a float, or a sequence of floats whose
    length never changes within the series (a histogram, the counts of classes).
    """

    series: str
    value: float | Sequence[float]
    where: str = ""


@dataclass(frozen=True, slots=True)
class Evidence:
    """A measured value with its interval, beside the limit that it was held against.

    ``low`` and ``high`` bound the value (95 % where it is an estimate; equal to it where it is
    exact).
    """

    name: str
    value: float
    low: float
    high: float
    limit: float
    where: str = ""


@dataclass(frozen=True, slots=True)
class Finding:
    """One illness of one run. Sentences are made in ``report``, remedies in ``remedies``."""

    id: str
    severity: Severity
    confidence: float
    where: tuple[str, ...]
    steps: tuple[int, int]
    evidence: tuple[Evidence, ...]
    explained_by: str = ""  # id of the finding that causes this one, where there is one
    stream: str = ""  # which model of the run, where a run trains several

    def __post_init__(self) -> None:
        if not 0 <= self.confidence <= 1:
            raise ValueError(f"{self.id} is {self.confidence} sure: a confidence is a probability")


@dataclass(frozen=True, slots=True)
class Prescription:
    """Something to try against a finding: a plain change (``method`` = "") or a method by id."""

    change: str
    method: str = ""
    paper: str = ""
    trial: str = ""  # the command that tries it on the user's own run
    available: bool = True


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What every rule said of a run: the findings, most important first, and who could not know."""

    findings: tuple[Finding, ...]
    checked: tuple[str, ...]
    not_applicable: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a paired trial says of one treatment, in the unit of its metric."""

    treatment: str
    verdict: Literal["helps", "hurts", "equivalent", "undecided"]
    difference: tuple[float, float, float]  # value, low, high
    p: float
    probability: float
    pairs: int
    more_seeds: int
    cost: float  # seconds of a step over the baseline's
    cost_interval: tuple[float, float] = (0.0, float("inf"))  # 95 %, over the pairs; open below two
