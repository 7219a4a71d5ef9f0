"""Findings for the terminal: plain text, most important first, symptoms folded beneath their cause."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from vario.nouns import Diagnosis, Evidence, Finding, Prescription
from vario.record.runs import to_type
from vario.remedies.prescribe import NOT_YET
from vario.report import facts, words

if TYPE_CHECKING:
    from vario.record import Run

__all__ = ["findings_text", "summary_text"]

# ASCII marks, which a terminal of any encoding can print. ANSI: 31 red, 33 yellow, 36 cyan, 32 green.
MARKS = {"error": ("x", "31;1"), "warning": ("!", "33;1"), "advice": ("i", "36;1")}


def findings_text(
    run: Run,
    diagnosis: Diagnosis,
    prescriptions: Mapping[Finding, Sequence[Prescription]],
    *,
    color: bool = False,
    width: int = 100,
) -> str:
    """Every finding with its evidence and all prescriptions, and everything that could not be known."""
    return _text(run, diagnosis, prescriptions, _Page(color, width), brief=False)


def summary_text(
    run: Run,
    diagnosis: Diagnosis,
    prescriptions: Mapping[Finding, Sequence[Prescription]],
    *,
    color: bool = False,
    width: int = 100,
) -> str:
    """The end of a run in about a dozen lines: the two gravest causes, each with its first remedy."""
    return _text(run, diagnosis, prescriptions, _Page(color, width), brief=True)


class _Page:
    """Lines of at most ``width`` characters, coloured or not."""

    def __init__(self, color: bool, width: int) -> None:
        self.color, self.width, self.lines = color, max(width, 40), list[str]()

    def line(
        self, text: str, style: str = "", *, indent: int = 0, hang: int = 2, whole: bool = False
    ) -> None:
        """Add a paragraph; ``whole`` keeps it on one line, as a command must be to be copied."""
        pad = " " * indent
        wrapped = [pad + text] if whole else textwrap.wrap(
            text, self.width, initial_indent=pad, subsequent_indent=pad + " " * hang, break_on_hyphens=False
        )  # fmt: skip
        for row in wrapped:
            self.lines.append(f"\x1b[{style}m{row}\x1b[0m" if style and self.color else row)


def _text(
    run: Run,
    diagnosis: Diagnosis,
    prescriptions: Mapping[Finding, Sequence[Prescription]],
    page: _Page,
    brief: bool,
) -> str:
    page.line(f"vario: {words.headline(run, diagnosis)}", "1")
    steps = facts.steps_seen(run)
    page.line(
        f"{words.clean(facts.title(run))} | run {facts.run_name(run)} | {steps:,} steps |"
        f" {facts.ending(run)}",
        "2",
        indent=2,
    )
    causes = words.told_once(diagnosis.findings)
    for cause, elsewhere in causes[: 2 if brief else None]:
        _one(page, cause, prescriptions.get(cause, ()), brief, several=len(run.records()) > 1)
        _beneath(page, words.explained(cause, diagnosis.findings), brief)
        _elsewhere(page, elsewhere, brief)
    if brief and len(causes) > 2:
        page.line("also: " + ", ".join(cause.id for cause, _ in causes[2:]), indent=2)
    _unknown(page, diagnosis, brief)
    for name, error in facts.switched_off(run):
        page.line(f"switched off: {name} ({error})", "33", indent=2)
    for what in facts.unseen(run):
        page.line(f"not seen: {what}", "33", indent=2)
    page.line(_own_cost(run), "2", indent=2)
    if brief and diagnosis.findings:
        name = words.clean(to_type(run.path), longest=600)
        page.line(f"more: vario findings {name}", indent=2, whole=True)
        page.line(f"vario report {name}", indent=8, whole=True)
    return "\n".join(page.lines)


def _one(page: _Page, finding: Finding, cures: Sequence[Prescription], brief: bool, several: bool) -> None:
    mark, style = MARKS[finding.severity]
    stream = f" in {words.clean(finding.stream)}" if several and finding.stream else ""
    first, last = finding.steps
    when = f"step {first}" if first == last else f"steps {first} to {last}"
    where = words.places(finding.where)
    sure = f"{100 * finding.confidence:.0f} % sure"
    page.line(f"{mark} {finding.id}{stream}  ({finding.severity}, {sure}; {where}; {when})", style)
    page.line(words.summary(finding, words.card_of(finding.id)), indent=4, hang=0)
    if not brief:
        for item in finding.evidence:
            page.line(_evidence(item), "2", indent=4)
    _cures(page, cures, brief)


def _cures(page: _Page, cures: Sequence[Prescription], brief: bool) -> None:
    """What can be done now, each with its command; what is only published, in one paragraph."""
    now = [cure for cure in cures if cure.available]
    if brief:  # the first, and where no trial can make that change, the first that one can
        now = now[:1] + [cure for cure in now if cure.trial and not now[0].trial][:1]
    for cure in now:
        paper = f" ({cure.paper})" if cure.paper and not brief else ""
        page.line(f"try: {cure.change}{paper}", indent=4, hang=5)
        if cure.trial:
            page.line(cure.trial, "32", indent=9, whole=True)
    later = [f"{cure.change.removesuffix(NOT_YET)} ({cure.paper})" for cure in cures if not cure.available]
    if later and not brief:
        page.line(f"published, not in vario yet: {'; '.join(later)}", "2", indent=4, hang=5)


def _evidence(item: Evidence) -> str:
    limit = "" if math.isnan(item.limit) else f", limit {words.amount(item.name, item.limit)}"
    place = f" in {words.clean(item.where, longest=60)}" if item.where else ""
    return f"{item.name}{place}: {words.interval(item)}{limit}"


def _beneath(page: _Page, folded: Sequence[Finding], brief: bool) -> None:
    if not folded:
        return
    if brief:
        page.line("which explains: " + ", ".join(finding.id for finding in folded), indent=4)
        return
    page.line("which explains:", indent=4)
    for finding in folded:
        sentence = words.summary(finding, words.card_of(finding.id))
        page.line(f"- {finding.id} ({words.places(finding.where)}): {sentence}", indent=6)


def _elsewhere(page: _Page, findings: Sequence[Finding], brief: bool) -> None:
    """The same illness in other models of the run."""
    if not findings:
        return
    page.line(words.same_elsewhere(findings), indent=4)
    for finding in () if brief else findings:
        sentence = words.summary(finding, words.card_of(finding.id))
        sure = f"{100 * finding.confidence:.0f} % sure"
        page.line(f"- {words.clean(finding.stream)} ({sure}): {sentence}", indent=6)


def _unknown(page: _Page, diagnosis: Diagnosis, brief: bool) -> None:
    """What was checked and what could not be: absence of evidence is never a pass."""
    missing = diagnosis.not_applicable
    clear = [name for name in diagnosis.checked if name not in {finding.id for finding in diagnosis.findings}]
    if brief:
        some = _shortened(missing, page.width - 60)
        tail = f"; {len(missing)} could not be made: {some}" if missing else ""
        page.line(f"{len(clear)} checks found nothing wrong{tail}", indent=2)
        return
    page.line(f"found nothing wrong: {', '.join(clear) or 'no check'}", indent=2)
    if missing:
        page.line("could not be checked:", indent=2)
        for reason, names in words.by_reason(missing).items():
            page.line(f"- {', '.join(names)}: {words.clean(reason, longest=200)}", "2", indent=4)


def _shortened(names: Iterable[str], room: int) -> str:
    """As many names as fit, the rest counted."""
    names, shown, length = list(names), list[str](), 0
    for name in names:
        length += len(name) + 2
        if shown and length > room:
            return f"{', '.join(shown)} and {len(names) - len(shown)} more"
        shown.append(name)
    return ", ".join(shown)


def _own_cost(run: Run) -> str:
    spent = facts.cost(run)
    return "what vario itself took was not measured" if math.isnan(spent.share) else f"vario took {spent}"
