"""Every rule on every stream of a run: the findings, causes above symptoms, and who could not know.

A rule that fails unexpectedly is reported as not applicable, with its error, and breaks nothing.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np

from vario.nouns import SEVERITIES, Diagnosis, Finding, NotApplicable
from vario.record import Record, Run
from vario.rules._calibration import calibrated
from vario.rules._causes import FAILURES, NO_ILLNESS, consequences, explains
from vario.rules._course import course
from vario.rules._harm import largest_step, weighed

__all__ = ["Rule", "diagnose", "rank"]

# Rules whose CARD says "alone" read a rising loss as an illness, which it need not be beside an opponent;
# those with "alone": "worse" read more than the loss, and are asked unless it rose. No other model makes this
# one take steps that replace its weights: beside those the loss rose by itself.
REPLACED = 1 / 3  # of the weights, by each of three steps in a row
_TOGETHER = "several models are trained together; the loss of one may rise because another gets better"


class Rule(Protocol):
    """What a rule must have; the modules of this room do. ``CARD["alone"]``: only for runs of one model.

    With "worse" in place of True it is left out only where the loss of its model rose. ``CARD["harm"]``: what
    it tells is itself the harm, or the evidence of this name is; other rules give advice while the run does
    well (``rules/_harm.py``).
    """

    ID: str
    CARD: dict[str, Any]

    def check(self, record: Record) -> Finding | None:
        """A finding, None where all is well; raises NotApplicable where it cannot know."""


def diagnose(run: Run | Record | Sequence[Record], rules: Iterable[Rule | str] | None = None) -> Diagnosis:
    """Run ``rules`` (names of this room's modules, or rules of your own; all by default) on ``run``."""
    if rules is None:
        from vario.rules import ALL

        rules = ALL
    loaded = [_load(rule) for rule in rules]
    records = run.records() if isinstance(run, Run) else [run] if isinstance(run, Record) else run
    records = [record.keeping() for record in records]  # what several rules ask for is found once
    together = len({record.stream.partition("@")[0] for record in records}) > 1
    findings: list[Finding] = []
    reasons: dict[str, str] = {}
    checked: list[str] = []
    for rule in loaded:
        outcomes = [
            _TOGETHER if together and _wants_to_be_alone(rule, record) else _ask(rule, record, together)
            for record in records
        ]
        findings += _once_per_model([o for o in outcomes if isinstance(o, Finding)])
        refusals = [o for o in outcomes if isinstance(o, str)]
        if len(refusals) == len(outcomes):
            reasons[rule.ID] = refusals[0] if refusals else "the run has no steps"
        else:
            checked.append(rule.ID)
    return Diagnosis(tuple(rank(findings)), tuple(sorted(checked)), dict(sorted(reasons.items())))


def rank(findings: Iterable[Finding]) -> list[Finding]:
    """Causes first, each as grave as the gravest finding it explains; then what they explain.

    Of equally grave ones, what could not be measured comes last, what explains that the run failed comes
    before what does not, and a cause before what it may have brought about in another model of the run (a
    rate is often typed once for both).
    """
    findings = list(findings)
    explained = [_explain(finding, findings) for finding in findings]
    explained = [_uppermost(finding, explained) for finding in explained]
    causes = [f for f in explained if not f.explained_by]
    symptoms = [f for f in explained if f.explained_by]

    def importance(finding: Finding) -> tuple[int, bool, bool, bool, float, int, str]:
        below = [f for f in symptoms if _is_below(f, finding, causes)]
        brought = [f for f in causes if _elsewhere(f, finding) and f.confidence <= finding.confidence]
        brought += [f for f in symptoms if any(_is_below(f, cause, causes) for cause in brought)]
        gravest = min(SEVERITIES.index(f.severity) for f in (finding, *below, *brought))
        idle = not any(f.id in FAILURES for f in below)
        elsewhere = any(_elsewhere(finding, f) for f in causes)
        return (
            gravest,
            finding.id in NO_ILLNESS,
            idle,
            elsewhere,
            -finding.confidence,
            -len(below),
            finding.id,
        )

    causes = sorted(causes, key=importance)  # a list that sorts itself is empty meanwhile
    place = {f: next(i for i, cause in enumerate(causes) if _is_below(f, cause, causes)) for f in symptoms}
    symptoms.sort(key=lambda f: (place[f], importance(f)))
    graver = [
        min((cause, *(f for f in symptoms if place[f] == i)), key=lambda f: SEVERITIES.index(f.severity))
        for i, cause in enumerate(causes)
    ]
    return [replace(f, severity=g.severity) for f, g in zip(causes, graver, strict=True)] + symptoms


def _elsewhere(finding: Finding, cause: Finding) -> bool:
    """Whether a finding may come of a cause in another model of the run.

    What never had a gradient was cut off where the script made its graph: no state of a model does that.
    """
    if finding.id == "no-gradient" and not any("since" in item.name for item in finding.evidence):
        return False
    return finding.stream != cause.stream and finding.id in consequences(cause.id)


def _is_below(symptom: Finding, cause: Finding, causes: list[Finding]) -> bool:
    """Whether ``cause`` is the one that explains ``symptom``: that of the same stream where there is one."""
    if symptom.explained_by != cause.id:
        return False
    own = any((f.id, f.stream) == (cause.id, symptom.stream) for f in causes)
    return cause.stream == symptom.stream or not own


def _explain(finding: Finding, others: list[Finding]) -> Finding:
    """Names the uppermost cause found in the same stream, the surest where there are several.

    What is no longer a number passes from one model of a run to the others, so its cause may be in another.
    """
    causes = [f for f in others if f.stream == finding.stream and explains(f, finding)]
    if not causes and finding.id == "non-finite":
        causes = [f for f in others if finding.id in consequences(f.id)]
    top = [f for f in causes if not any(explains(other, f) for other in causes)]
    if not top:
        return finding
    return replace(finding, explained_by=max(top, key=lambda f: (f.confidence, f.id)).id)


def _uppermost(finding: Finding, explained: list[Finding]) -> Finding:
    """With the cause that nothing explains: the cause of a cause need not explain what that one does."""
    above = {f.id: f.explained_by for f in reversed(explained) if f.stream == finding.stream}
    cause = finding.explained_by
    while above.get(cause):
        cause = above[cause]
    return replace(finding, explained_by=cause)


def _once_per_model(findings: list[Finding]) -> list[Finding]:
    """Ranks of one model (``model``, ``model@1``) show one illness once: the surest of them."""
    best: dict[str, Finding] = {}
    for finding in findings:
        model = finding.stream.partition("@")[0]
        if model not in best or finding.confidence > best[model].confidence:
            best[model] = replace(finding, stream=model)
    return list(best.values())


def _wants_to_be_alone(rule: Rule, record: Record) -> bool:
    alone = rule.CARD.get("alone", False)
    if alone != "worse":
        return bool(alone)
    try:
        return course(record).state == "worse" and not REPLACED <= largest_step(record) < np.inf
    except NotApplicable:
        return False


def _ask(rule: Rule, record: Record, together: bool) -> Finding | str | None:
    """The rule's finding, None, or the reason why it cannot know."""
    try:
        # Records of sick runs hold inf and NaN; each rule decides about them by name.
        with np.errstate(all="ignore"):
            finding = rule.check(record)
            if finding is not None:
                finding = weighed(finding, rule.CARD, record, alone=not together)
    except NotApplicable as reason:
        return str(reason)
    except Exception as error:  # noqa: BLE001 - one broken rule must not silence the others
        return f"failed: {type(error).__name__}: {error}"
    if finding is None:
        return None
    return replace(finding, stream=record.stream, confidence=calibrated(finding.confidence))


def _load(rule: Rule | str) -> Rule:
    return importlib.import_module(f"vario.rules.{rule}") if isinstance(rule, str) else rule  # type: ignore[return-value]
