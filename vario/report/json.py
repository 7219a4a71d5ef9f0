"""Findings as JSON for other programs: the contract of ``vario findings --json``.

Strict JSON: a number that is not finite (NaN, infinity) is ``null``, since JSON knows neither; an
interval that is open above has ``"high": null``. The sentence in ``summary`` says which it was.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from vario.nouns import Diagnosis, Finding, Prescription
from vario.report import facts, words

if TYPE_CHECKING:
    from vario.record import Run

__all__ = ["findings_dict", "findings_json"]


def findings_json(
    run: Run, diagnosis: Diagnosis, prescriptions: Mapping[Finding, Sequence[Prescription]]
) -> str:
    """The findings of a run as JSON text, most important first."""
    return json.dumps(
        findings_dict(run, diagnosis, prescriptions), indent=2, ensure_ascii=False, allow_nan=False
    )


def findings_dict(
    run: Run, diagnosis: Diagnosis, prescriptions: Mapping[Finding, Sequence[Prescription]]
) -> dict[str, Any]:
    """The same as plain dicts and lists."""
    return {
        "run": facts.run_name(run),
        "findings": [_finding(finding, prescriptions.get(finding, ())) for finding in diagnosis.findings],
        "checked": list(diagnosis.checked),
        "not_applicable": [
            {"id": name, "reason": reason} for name, reason in diagnosis.not_applicable.items()
        ],
    }


def _finding(finding: Finding, cures: Sequence[Prescription]) -> dict[str, Any]:
    return {
        "id": finding.id,
        "severity": finding.severity,
        "confidence": _number(finding.confidence),
        "where": list(finding.where),
        "steps": [int(step) for step in finding.steps],
        "evidence": [
            {
                "name": item.name,
                "value": _number(item.value),
                "low": _number(item.low),
                "high": _number(item.high),
                "limit": _number(item.limit),
                "where": item.where,
            }
            for item in finding.evidence
        ],
        "summary": words.summary(finding, words.card_of(finding.id)),
        "prescriptions": [
            {"method": cure.method, "change": cure.change, "paper": cure.paper, "trial": cure.trial}
            for cure in cures
        ],
    }


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
