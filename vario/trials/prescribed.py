"""Treatments that a recorded run asks for: its prescriptions, and a control that it does not ask for.

A remedy that does not beat a remedy drawn at random is not a remedy. The control is a method of the
catalogue that is meant against none of the run's findings.
"""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path
from random import Random

from vario.nouns import Finding, Prescription, VarioError
from vario.record.reader import Run, open_run
from vario.record.runs import find_run
from vario.remedies import catalog
from vario.remedies.prescribe import prescribe_all
from vario.remedies.treatment import Treatment
from vario.remedies.treatment_words import filled_in, refusal, slot_of
from vario.rules._diagnose import diagnose
from vario.trials.length import length_of

__all__ = ["command_of", "control_for", "from_findings", "of_finding"]

MOST_FINDINGS = 3
GENTLE = ("optimizer", "optimizer-around", "sampler", "schedule", "layer")  # slots that most scripts have


def command_of(run: Run) -> tuple[str, ...]:
    """The command that a run recorded, as `vario trial` takes it."""
    given = run.meta.get("command") or ()
    words = shlex.split(given) if isinstance(given, str) else [str(part) for part in given]
    if words and words[0].rpartition("/")[2].startswith("python"):
        words = words[1:]
    if not words:
        raise VarioError(f"the run {run.id} does not say which command made it; name the script.")
    return tuple(words)


def of_finding(reference: str, home: Path | None = None) -> tuple[Treatment, str]:
    """The treatment of `RUN:FINDING` or `RUN:FINDING.PRESCRIPTION`, counted from 1; and the finding's id."""
    name, _, number = reference.rpartition(":")
    first, _, second = number.partition(".")
    if not (name and first.isdigit() and (not second or second.isdigit())):
        raise VarioError(f"--from-finding {reference}: write RUN:1 for the first finding of a run.")
    with open_run(find_run(name, home)) as run:
        findings, cures = _prescribed(run)
    place = int(first) - 1
    if not 0 <= place < len(findings):
        raise VarioError(
            f"--from-finding {reference}: the run has {len(findings)} findings; see `vario findings`."
        )
    finding = findings[place]
    treatments = _tryable(cures[finding])
    choice = int(second or 1) - 1
    if not 0 <= choice < len(treatments):
        raise VarioError(
            f"--from-finding {reference}: {finding.id} has {len(treatments)} prescriptions that a trial can "
            f"put in; `vario findings {name}` shows them."
        )
    return treatments[choice], finding.id


def from_findings(run: Run) -> list[tuple[Treatment, str]]:
    """The first prescription that can be tried of each cause, most important first; at most three."""
    findings, cures = _prescribed(run)
    found: dict[str, tuple[Treatment, str]] = {}
    for finding in findings:
        if not finding.explained_by:
            for treatment in _tryable(cures[finding])[:1]:
                found.setdefault(treatment.name, (treatment, finding.id))
    if not found:
        raise VarioError(
            f"the run {run.id} has no finding with a prescription that a trial can put into an unmodified "
            "script; `vario findings` shows what it has. Name a treatment with --with or --set."
        )
    return list(found.values())[:MOST_FINDINGS]


def control_for(run: Run | None, others: Iterable[str], *, salt: str) -> Treatment:
    """A method of the catalogue that is meant against none of the findings; the same for the same `salt`."""
    ill = set() if run is None else {finding.id for finding in diagnose(run).findings}
    taken = {name.partition(":")[0] for name in others}
    steps, epochs = (1000, 10) if run is None else length_of(run)
    pool = [
        entry.id
        for entry in catalog.entries()
        if entry.kind == "method"
        and entry.id not in taken
        and slot_of(entry.id) in GENTLE
        and not refusal(entry.id)
        and entry.card.get("treats")
        and not ill & set(entry.card["treats"])
    ]
    Random(hashlib.sha256(salt.encode()).digest()).shuffle(pool)
    for method in pool:
        try:
            return Treatment.parse(filled_in(method, steps=steps, epochs=epochs))
        except VarioError:  # it needs an option that only the user knows
            continue
    raise VarioError("the catalogue has no method that could be a control here; leave --control out.")


def _prescribed(run: Run) -> tuple[Sequence[Finding], dict[Finding, tuple[Prescription, ...]]]:
    diagnosis = diagnose(run)
    return diagnosis.findings, prescribe_all(diagnosis, run)


def _tryable(cures: Iterable[Prescription]) -> list[Treatment]:
    """The treatments of those prescriptions whose trial command names one, in their order."""
    found = []
    for cure in cures:
        words = shlex.split(cure.trial, comments=True)[-2:]
        if len(words) == 2 and words[0] in ("--set", "--with"):
            try:
                found.append(Treatment.parse(words[1]))
            except VarioError:  # a change that no slot can make
                continue
    return found
