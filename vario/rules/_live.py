"""Findings of a run that is still going: when to look, how sure to be, when to speak and when to take back.

Who looks at every step finds something in the end, however healthy the run. So there are few looks, at fixed
numbers of steps that grow by a quarter from one to the next, however often somebody asks; and the k-th has
its intervals at the level ALPHA 6 / (pi k)^2. These levels sum to ALPHA, so the chance that the interval of
a quantity ever misses it, over however long a run, is no more than that of one look at 95 %.

A finding is announced where ``LASTING`` looks in a row have it (the run has nearly doubled meanwhile), and is
taken back by the first look without it. What is read off and not estimated (``FACTS``) is told at once.
That something has not come yet (``NOT_YET``) is true of every run at first; it is told from ``RIPE`` steps.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from statistics import NormalDist

from vario.nouns import Diagnosis
from vario.record import Record, Run
from vario.record.until import until
from vario.rules import ALL
from vario.rules._diagnose import Rule, diagnose, rank
from vario.rules._evidence import reaching

__all__ = ["level_of", "live", "look_before"]

ALPHA = 0.05
FIRST, GROWTH = 20, 1.25  # steps at the first look; from one look to the next
LASTING = 3
FACTS = ("non_finite", "non_finite_input")
RIPE = 1000  # steps: warm-ups are over by then
NOT_YET = frozenset({"loss-plateau", "underfitting", "class-neglected", "learning-rate-too-low"})


def live(
    run: Run | Sequence[Record],
    rules: Sequence[Rule | str] | None = None,
    *,
    made: dict[int, Diagnosis] | None = None,
) -> Diagnosis:
    """What may be said of the run by now; the same for everyone who asks before the next look.

    ``made`` keeps the looks for the next time that the same is asked.
    """
    made = {} if made is None else made
    records = run.records() if isinstance(run, Run) else list(run)
    steps = max((record.step_count for record in records), default=0)
    number = look_before(steps)
    numbers = range(max(number - LASTING + 1, 1), number + 1)
    looks = [made.get(k) or made.setdefault(k, _look(records, k, rules)) for k in numbers]
    facts = diagnose(records, FACTS if rules is None else [rule for rule in rules if rule in FACTS])
    if not looks:
        return replace(facts, not_applicable=facts.not_applicable | _unlooked(rules or ALL, steps))
    latest, known = looks[-1], {fact.id for fact in facts.findings}
    lasting = set.intersection(*({(f.id, f.stream) for f in look.findings} for look in looks))
    told, waiting = list(facts.findings), dict[str, str]()
    for found in latest.findings:
        if found.id in known:
            continue
        if len(looks) < LASTING or (found.id, found.stream) not in lasting:
            waiting[found.id] = f"found at step {_steps_at(number)}; told if it lasts"
        elif found.id in NOT_YET and steps < RIPE:
            waiting[found.id] = f"found at step {_steps_at(number)}; told from step {RIPE} on if it lasts"
        else:
            told.append(replace(found, explained_by=""))  # its cause may not be told yet
    waiting = {name: reason for name, reason in waiting.items() if name not in {f.id for f in told}}
    return Diagnosis(
        tuple(rank(told)),
        tuple(name for name in latest.checked if name not in waiting),
        dict(sorted((latest.not_applicable | waiting).items())),
    )


def look_before(steps: int) -> int:
    """Number (from 1) of the last look that a run of so many steps has had; 0 before the first."""
    number = 0
    while _steps_at(number + 1) <= steps:
        number += 1
    return number


def level_of(look: int) -> float:
    """The share of intervals of one look that may miss; over all looks they sum to ALPHA."""
    return ALPHA * 6 / (math.pi * look) ** 2


def _steps_at(look: int) -> int:
    return math.ceil(FIRST * GROWTH ** (look - 1))


def _look(records: Sequence[Record], number: int, rules: Sequence[Rule | str] | None) -> Diagnosis:
    with reaching(NormalDist().inv_cdf(1 - level_of(number) / 2)):
        return diagnose([until(record, _steps_at(number)) for record in records], rules)


def _unlooked(rules: Sequence[Rule | str], steps: int) -> dict[str, str]:
    reason = f"{steps} steps; a run that goes on is first looked at after {FIRST}"
    names = (rule.replace("_", "-") if isinstance(rule, str) else rule.ID for rule in rules)
    return {name: reason for name in names if name not in {fact.replace("_", "-") for fact in FACTS}}
