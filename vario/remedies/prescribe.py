"""What to try against a finding: plain changes with numbers from the run itself, then published methods.

Plain changes come first because they cost nothing and their number is computed from the record,
with the reason beside it; then the methods of the catalogue that treat the finding, those in vario
before those that are known only from their paper.
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from vario.nouns import Diagnosis, Finding, Prescription, VarioError
from vario.remedies import (
    catalog,
    changes_batch,
    changes_data,
    changes_generalization,
    changes_gradients,
    changes_numerics,
    changes_rate,
    treatment_words,
)
from vario.remedies.changes import Change, Maker, loader, modules, steps_per_epoch
from vario.remedies.treatment import Treatment
from vario.remedies.treatment_signatures import layer_targets
from vario.rules._parameters import optimizer_name

if TYPE_CHECKING:
    from vario.record import Record, Run

__all__ = ["MAKERS", "NOT_YET", "prescribe", "prescribe_all"]

MAKERS: dict[str, Maker] = {
    **changes_rate.MAKERS,
    **changes_gradients.MAKERS,
    **changes_batch.MAKERS,
    **changes_numerics.MAKERS,
    **changes_generalization.MAKERS,
    **changes_data.MAKERS,
}

COMING = "  # comes with trials"  # a shell comment, in what an earlier vario wrote
# Options that `vario trial` takes for its own; a script that has one of these is named after `--`.
TRIAL_OPTIONS = frozenset(
    "--with --set --from-finding --auto --control --seeds --metric --higher-is-better --lower-is-better "
    "--budget --minutes --stall --tune --margin --all-seeds --jobs --runner --reopen --out --fresh "
    "--retry --home --json --help".split()
)
BY_LOADERS = ("sampler", "batch-sampler", "rule-of-change")  # what a trial changes in a loader
# Part of the words, since the JSON contract has no field for it.
NOT_YET = " (not in vario yet)"


def prescribe(finding: Finding, record: Record) -> tuple[Prescription, ...]:
    """Everything to try against ``finding`` on the run of ``record``, the first thing first.

    A finding that another one explains sends the reader there, and brings no method of its own.
    """
    maker = MAKERS.get(finding.id)
    changes = maker(finding, record) if maker else []
    if finding.explained_by:
        return tuple(_plain(change, record) for change in _after(finding.explained_by, changes))
    return (*(_plain(change, record) for change in changes), *_methods(finding, record))


def prescribe_all(diagnosis: Diagnosis, run: Run) -> dict[Finding, tuple[Prescription, ...]]:
    """The prescriptions of every finding of a run, each from the record of its own stream."""
    records = {record.stream.partition("@")[0]: record for record in reversed(run.records())}
    return {
        finding: prescribe(finding, records.get(finding.stream, run.main)) for finding in diagnosis.findings
    }


def trial_command(record: Record, option: str) -> str:
    """``vario trial`` on the run's own command; "" where the command is not known."""
    command = record.meta.get("command") or ()
    words = shlex.split(command) if isinstance(command, str) else [str(part) for part in command]
    if words and words[0].rpartition("/")[2].startswith("python"):
        words = words[1:]
    if not words:
        return ""
    if any(word.partition("=")[0] in TRIAL_OPTIONS for word in words):
        return f"vario trial {option} -- {shlex.join(words)}"
    return f"vario trial {shlex.join(words)} {option}"


def _after(cause: str, changes: list[Change]) -> list[Change]:
    """For a symptom: its cause first, and none of the numbers that would work against the cause's own."""
    first = Change(f"mend {cause} first: this is likely its consequence")
    return [first, *(change for change in changes if not change.setting)]


def _plain(change: Change, record: Record) -> Prescription:
    trial = trial_command(record, f"--set {shlex.quote(change.setting)}") if _can_be_set(change) else ""
    return Prescription(change.text, paper=change.paper, trial=trial)


def _methods(finding: Finding, record: Record) -> list[Prescription]:
    found = []
    for method, paper, available in catalog.methods_for(finding.id):
        if available and method and not _has_a_place(method, record):
            continue
        name = method or (paper.title if paper else "")
        cure = Prescription(
            f"{name}: {paper.title}" if method and paper else name,
            method=method,
            paper=paper.id if paper else "",
            trial=_trial_of(method, finding, record) if available and method else "",
            available=available,
        )
        found.append(cure if available else _not_yet(cure))
    return sorted(found, key=lambda cure: not cure.available)


def _has_a_place(method: str, record: Record) -> bool:
    """Whether the run has what the method takes the place of, as far as that is known.

    A layer needs one that it can replace. An optimizer takes over the rate of the one before: steps of Adam
    are as long as its rate, those of SGD also as the gradient, so a CARD's ``rate_of`` names whose rate fits.
    """
    try:
        card = catalog.find(method).card
    except VarioError:  # a method of an outsider's
        return True
    layers = layer_targets(method) if card.get("slot") == "layer" else ()
    if layers and modules(record) and not modules(record, *layers):
        return False
    fitting, name = card.get("rate_of", ()), optimizer_name(record)
    return not fitting or not name or any(word in name for word in fitting)


def _trial_of(method: str, finding: Finding, record: Record) -> str:
    """The trial of a method for a run of this length; "" where it cannot be put into an unmodified script."""
    steps = record.step_count
    epochs = -(-steps // steps_per_epoch(record)) if steps_per_epoch(record) else 0
    try:
        by_loader = treatment_words.slot_of(method) in BY_LOADERS
        if treatment_words.refusal(method) or (by_loader and not loader(record)):
            return ""
        text = treatment_words.filled_in(method, steps=steps, epochs=epochs, finding=finding.id)
    except VarioError:  # a method of an outsider's, which the catalogue does not hold
        text = method
    return trial_command(record, f"--with {shlex.quote(text)}")


def _can_be_set(change: Change) -> bool:
    """Whether a trial can make the change in an unmodified script."""
    try:
        return bool(change.setting) and bool(Treatment.parse_set(change.setting).settings)
    except VarioError:
        return False


def _not_yet(cure: Prescription) -> Prescription:
    """The same with the mark in its words, since JSON has no field for it."""
    return Prescription(
        f"{cure.change} (not in vario yet)", cure.method, cure.paper, cure.trial, available=False
    )
