"""Numbers, names and findings said in plain words, the same in every output.

A rule keeps its sentence as a template in ``CARD["summary"]``; what it measured goes where the
name of an evidence stands in braces: ``"each step moves the weights by {update ratio}"``. The
interval travels with the number; a clause whose evidence this finding lacks is left out.
Shares and accuracies are shown in percent; ``{name:%}`` asks
for percent, ``{name:#}`` for the plain number, ``{limit of name}`` for the limit, and ``{where}``
and ``{steps}`` for the place and the time.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from vario.nouns import Diagnosis, Evidence, Finding
from vario.remedies import catalog
from vario.remedies.figures import amount, number, size

if TYPE_CHECKING:
    from vario.record import Run

__all__ = [
    "amount",
    "by_reason",
    "card_of",
    "claim",
    "clean",
    "duration",
    "explained",
    "headline",
    "interval",
    "number",
    "places",
    "same_elsewhere",
    "size",
    "summary",
    "title",
    "told_once",
]

UNMEASURED = "(not measured)"
_SLOT = re.compile(r"\{([^{}:]+)(?::([%#]))?\}")


def summary(finding: Finding, card: Mapping[str, Any]) -> str:
    """One sentence: the template of the rule with the measured values in it."""
    template = card.get("summary") or f"{title(finding.id)}: " + ", ".join(
        f"{name} {{{name}}}" for name in dict.fromkeys(item.name for item in finding.evidence)
    )
    clauses = re.split(r"(; |, and |, but )", template)
    known = [clauses[0]] if _known(finding, clauses[0]) else []
    for joint, clause in zip(clauses[1::2], clauses[2::2], strict=True):
        if _known(finding, clause):
            known += [joint, clause] if known else [clause]
    text = "".join(known) if known else template
    filled = _SLOT.sub(lambda slot: _fill(finding, slot[1], slot[2] or ""), text).strip().rstrip(":;,")
    return filled[:1].upper() + filled[1:] + ("" if filled.endswith((".", "!", "?")) else ".")


def headline(run: Run, diagnosis: Diagnosis) -> str:
    """The first thing to know about a run, in one line."""
    steps = sum(record.step_count for record in run.records())
    if not steps and not diagnosis.findings:
        return "No training step was seen"
    causes = [finding for finding in diagnosis.findings if not finding.explained_by]
    serious = [finding for finding in causes if finding.severity != "advice"]
    if serious:
        more = len({finding.id for finding in causes}) - 1  # one illness of sixty models is one
        return claim(serious[0].id) + (
            f", and {more} more {'cause' if more == 1 else 'causes'}" if more else ""
        )
    if run.status in ("failed", "killed"):
        return f"The run {'failed' if run.status == 'failed' else 'was killed'}, and no check says why"
    if not diagnosis.checked:
        return "Nothing could be checked"
    count = f"{len(diagnosis.checked)} of {len(diagnosis.checked) + len(diagnosis.not_applicable)} checks"
    return f"Nothing wrong was found in {count}" + ("; some advice" if causes else "")


def told_once(findings: Sequence[Finding]) -> list[tuple[Finding, list[Finding]]]:
    """The causes in their order, each illness once: its first finding, and those of other models."""
    told: dict[str, tuple[Finding, list[Finding]]] = {}
    for finding in findings:
        if finding.explained_by:
            continue
        if finding.id in told:
            told[finding.id][1].append(finding)
        else:
            told[finding.id] = (finding, [])
    return list(told.values())


def explained(cause: Finding, findings: Sequence[Finding]) -> list[Finding]:
    """The symptoms of a cause: what it explains in its own stream."""
    return [item for item in findings if (item.explained_by, item.stream) == (cause.id, cause.stream)]


def same_elsewhere(others: Sequence[Finding], most: int = 6) -> str:
    """In which other models an illness was found, most of all by name."""
    names = [clean(finding.stream, longest=40) for finding in others]
    shown = ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
    return f"The same in {len(names)} other {'model' if len(names) == 1 else 'models'}: {shown}"


def title(finding_id: str) -> str:
    """``learning-rate-too-high`` as a person would write it."""
    words = clean(finding_id).replace("-", " ")
    return words[:1].upper() + words[1:]


def claim(finding_id: str) -> str:
    """What a finding says is wrong, in the words of its rule; its id where the rule is from outside."""
    for entry in catalog.entries():
        if entry.kind == "finding" and entry.id == finding_id:
            return entry.title.partition(":")[0].rstrip(".")
    return title(finding_id)


def card_of(finding_id: str) -> Mapping[str, Any]:
    """The CARD of the rule that made a finding; empty for a rule from outside."""
    for entry in catalog.entries():
        if entry.kind == "finding" and entry.id == finding_id:
            return entry.card
    return {}


def interval(item: Evidence, style: str = "") -> str:
    """A measured value with its interval: ``40 % (38 % to 43 %)``; exact values stand alone."""
    value = amount(item.name, item.value, style)
    low, high = amount(item.name, item.low, style), amount(item.name, item.high, style)
    if math.isnan(item.value) or (low == value == high) or (math.isnan(item.low) and math.isnan(item.high)):
        return value
    if math.isinf(item.high) and not math.isinf(item.value):
        return f"{value} (at least {low})"
    return f"{value} ({low} to {high})"


def duration(seconds: float) -> str:
    """``41 s``, ``12 min``, ``3 h 20 min``."""
    if not math.isfinite(seconds):
        return "an unknown time"
    if seconds < 1:
        return f"{number(1000 * seconds)} ms"
    if seconds < 90:
        return f"{number(seconds)} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    hours, rest = divmod(minutes, 60)
    return f"{hours} h {rest} min" if rest else f"{hours} h"


def places(where: Sequence[str], *, most: int = 3) -> str:
    """The places of a finding: at most a few by name, the rest counted."""
    named = [clean(place, longest=60) for place in where if place]
    if not named:
        return "whole model"
    shown = ", ".join(named[:most])
    return f"{shown} and {len(named) - most} more" if len(named) > most else shown


def by_reason(not_applicable: Mapping[str, str]) -> dict[str, list[str]]:
    """Checks that could not be made, by the reason why: many share one."""
    grouped: dict[str, list[str]] = {}
    for name, reason in not_applicable.items():
        grouped.setdefault(reason, []).append(name)
    return grouped


def clean(text: str, *, longest: int = 120) -> str:
    """A name from the user's program made safe to show: no control or direction marks, not endless."""
    safe = "".join(" " if unicodedata.category(c) in ("Cc", "Cf", "Zl", "Zp", "Cs") else c for c in str(text))
    if len(safe) > longest:
        half = (longest - 5) // 2
        safe = f"{safe[:half]} ... {safe[-half:]}"
    return safe


def _known(finding: Finding, clause: str) -> bool:
    return all(_fill(finding, slot[1], "") != UNMEASURED for slot in _SLOT.finditer(clause))


def _fill(finding: Finding, name: str, style: str) -> str:
    name = name.strip()
    if name == "where":
        return places(finding.where)
    if name == "steps":
        return f"steps {finding.steps[0]} to {finding.steps[1]}"
    wants_limit = name.startswith("limit of ")
    wanted = name.removeprefix("limit of ")
    for item in finding.evidence:
        if item.name == wanted:
            return amount(item.name, item.limit, style) if wants_limit else interval(item, style)
    return UNMEASURED
