"""A finding as a card of the page: what it is, the charts that show it, and what to try."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from vario.nouns import Diagnosis, Evidence, Finding, Prescription
from vario.remedies import catalog
from vario.remedies.prescribe import COMING, NOT_YET
from vario.report import svg, words

__all__ = ["checks", "finding_card", "said"]

MARKS = {"error": "✕", "warning": "!", "advice": "i"}


def finding_card(
    finding: Finding,
    cures: Sequence[Prescription],
    figures: str,
    beneath: str = "",
    *,
    stream: bool = False,
    small: bool = False,
) -> str:
    """One finding; ``beneath`` are the cards of what it explains, ``figures`` the charts of its evidence."""
    level = "h4" if small else "h3"
    first, last = finding.steps
    facts = [
        f"{100 * finding.confidence:.0f} % sure",
        said(words.places(finding.where)),
        f"step {first:,}" if first == last else f"steps {first:,} to {last:,}",
        *([said(finding.stream)] if stream and finding.stream else []),
        f"<code>{said(finding.id)}</code>",
    ]
    sentence = said(words.summary(finding, words.card_of(finding.id)), longest=2000)
    return (
        f'<article class="finding {finding.severity}{" small" if small else ""}" data-testid="finding">'
        f'<header><span class="badge">{MARKS[finding.severity]} {finding.severity}</span>'
        f"<{level}>{said(words.claim(finding.id), longest=200)}</{level}>"
        f'<p class="meta">{" · ".join(facts)}</p></header>'
        f'<p class="lead">{sentence}</p>'
        f'<div class="two"><div class="shown">{figures}</div>'
        f'<div class="told">{_cures(cures)}{_evidence(finding)}{_meaning(finding.id)}</div></div>'
        f"{beneath}</article>"
    )


def checks(diagnosis: Diagnosis) -> str:
    """What was checked and found well, and what could not be checked, by reason."""
    found = {finding.id for finding in diagnosis.findings}
    clear = [name for name in diagnosis.checked if name not in found]
    reasons = "".join(
        f"<li>{said(reason, longest=300)}: {', '.join(f'<code>{said(name)}</code>' for name in names)}</li>"
        for reason, names in words.by_reason(diagnosis.not_applicable).items()
    )
    shown = " open" if clear and not found else ""
    passed = ", ".join(f"<code>{said(name)}</code>" for name in clear) or "no check"
    unknown = (
        f"<details><summary><b>{len(diagnosis.not_applicable)}</b> checks could not be made</summary>"
        f'<ul class="reasons">{reasons}</ul></details>'
        if reasons
        else ""
    )
    return (
        f'<div class="checks"><details{shown}><summary><b>{len(clear)}</b> checks found nothing'
        " wrong</summary>"
        f"<p>{passed}</p></details>{unknown}</div>"
    )


def said(text: str, *, longest: int = 120) -> str:
    """Text from outside, made safe for a page."""
    return escape(words.clean(text, longest=longest), quote=True)


def _cures(cures: Sequence[Prescription]) -> str:
    now = "".join(f"<li>{_cure(cure)}</li>" for cure in cures if cure.available)
    later = [cure for cure in cures if not cure.available]
    listed = "".join(
        f"<li>{said(cure.change.removesuffix(NOT_YET), longest=300)} <code>{said(cure.paper)}</code></li>"
        for cure in later
    )
    fold = (
        f"<details><summary>{len(later)} published {'method' if len(later) == 1 else 'methods'}, not in"
        " vario yet"
        f"</summary><ul>{listed}</ul></details>"
        if later
        else ""
    )
    return f"<h4>What to try</h4><ol class='cures'>{now}</ol>{fold}" if now or fold else ""


def _cure(cure: Prescription) -> str:
    paper = f" <code>{said(cure.paper)}</code>" if cure.paper else ""
    text = f"<span>{said(cure.change, longest=600)}{paper}</span>"
    if not cure.trial:
        return text
    command, coming = cure.trial.removesuffix(COMING), cure.trial.endswith(COMING)
    note = '<span class="coming">comes with trials</span>' if coming else ""
    shown = said(command, longest=2000)
    return (
        f'{text}<div class="command"><code>{shown}</code>{note}'
        f'<button type="button" class="copy" data-copy="{shown}" aria-label="Copy the command">'
        "copy</button></div>"
    )


def _evidence(finding: Finding) -> str:
    rows = "".join(_row(item) for item in finding.evidence)
    if not rows:
        return ""
    return (
        '<h4>What was measured</h4><table class="evidence"><thead><tr><th scope="col">evidence</th>'
        f'<th scope="col">value</th><th scope="col">limit</th><th></th></tr></thead><tbody>{rows}</tbody>'
        "</table>"
    )


def _row(item: Evidence) -> str:
    place = f" <small>{said(item.where, longest=60)}</small>" if item.where else ""
    limit = "" if math.isnan(item.limit) else words.amount(item.name, item.limit)
    return (
        f'<tr><th scope="row">{said(item.name)}{place}</th><td>{words.interval(item)}</td>'
        f"<td>{limit}</td><td>{svg.meter(item)}</td></tr>"
    )


def _meaning(finding_id: str) -> str:
    """What the rule's own docstring says it means and how it decides."""
    doc = next((e.doc for e in catalog.entries() if e.kind == "finding" and e.id == finding_id), "")
    parts = []
    for heading, after in (
        ("What it means:", "How it is decided:"),
        ("How it is decided:", "Not applicable:"),
    ):
        start, end = doc.find(heading), doc.find(after)
        if start >= 0 and end > start:
            text = " ".join(doc[start + len(heading) : end].split())
            parts.append(f"<p><b>{heading[:-1]}.</b> {escape(text)}</p>")
    return (
        f"<details><summary>What it means, how it is decided</summary>{''.join(parts)}</details>"
        if parts
        else ""
    )
