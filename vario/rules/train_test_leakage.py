"""Rows of the evaluation were trained on.

What it means: the evaluation is partly an exam whose answers were handed out before; its figures are too
good by an unknown amount. Splitting before doubling or augmenting, and splitting by what belongs together,
prevents it.
How it is decided: the share of the rows of an evaluation whose hash occurred in training (without a loader,
where a part of training is known, over that part); the low end of its interval must pass 0.01. A warning up
to 0.1, an error beyond. A loader of training rows only (above 0.9) is taken as meant so, where another
evaluation is held out; where none is, a warning says that nothing is, or advice where it is all of the
training data. Advice only where the training data repeat rows within an epoch, or in the script's own table,
about as often: few distinct rows exist.
Not applicable: no evaluation was seen, its rows could not be hashed, or fewer than 100 were; or the loss of a
training step is about a part of the rows that the model is given: where a model is asked for all nodes of a
graph at once, a mask holds out labels and not rows, and which of the rows were trained on is not known.
"""

from __future__ import annotations

import numpy as np

from vario.nouns import Finding, NotApplicable, Severity
from vario.record import Record
from vario.rules._evidence import Estimate, finite
from vario.rules._examples import graded, has_positions, labelled_share, labels_per_example, rate
from vario.rules._held_out import is_seen
from vario.rules._model import training_loaders

ID = "train-test-leakage"
CARD = {
    "papers": ("P253",),
    "reads": (
        "eval/seen_share",
        "eval/seen_of",
        "eval/examples",
        "data/duplicate_share",
        "batch/targets",
        "batch/size",
    ),
    "checked": "closed form",
    "changed": "P253 finds near duplicates by attribution; equal hashes find exact ones only",
    "harm": True,
    "summary": "{share of rows seen in training} of the rows of {where} were trained on.",
}


def check(
    record: Record,
    *,
    least: float = 0.01,  # public benchmarks hold up to about this much
    clear: float = 0.1,
    rows: int = 100,
    part: float = 0.9,  # of rows with a label; with fewer, those without one are no oversight
) -> Finding | None:
    """A finding where an evaluation shares rows with training."""
    labelled = labelled_share(record)
    if labelled < part:
        raise NotApplicable(f"the loss of a step is about {labelled:.0%} of the rows that the model is given")
    found: dict[str, tuple[Estimate, int]] = {}
    most = 0.0
    for where in record.wheres("eval/seen_share"):
        steps, shares = finite(*record.series("eval/seen_share", where))
        count = record.last("eval/examples", where)
        most = max(most, count if count >= 0 else 0.0)
        if len(shares) and count >= rows:
            # Before training has gone through its data once, rows that leaked are not known yet; without a
            # loader each share is an estimate.
            of = record.last("eval/seen_of", where)  # rows that it is as certain as a share of
            found[where] = (
                rate(float(np.median(shares[-3:])), min(of, count) if of > 0 else count),
                int(steps[-1]),
            )
    if not found:
        raise NotApplicable(f"{most:.0f} rows of evaluations were hashed; {rows} are needed")
    own = {where for where in found if is_seen(record, where)}
    leaks = {where: item for where, item in found.items() if where not in own and item[0].low > least}
    trained = {event.where for event in record.events("epoch")}
    others = {event.where for event in record.events("loader")} - trained - own  # of which no rows were known
    if not leaks and len(own) == len(found) and not others:
        where = max(own)
        own_share, step = found[where]
        only = own_share.evidence("share of rows seen in training", least, where)
        # A pass over all of the training data is meant as one; a part of it stands where a test set should.
        lengths = [float(loader.get("length") or np.inf) for loader in training_loaders(record)]
        lengths += [float(event.data["rows"]) for event in record.events("table")]
        asked = finite(*record.series("eval/examples", where))[1]  # twice as many by a second pass at the end
        each = labels_per_example(record) if has_positions(record) else 1.0  # words of a text are counted
        whole = asked.min(initial=np.inf) / each >= 0.99 * min(lengths, default=np.inf)
        meant = whole or _is_natural(record, own_share)
        return Finding(ID, "advice" if meant else "warning", 0.8, (where,), (step, step), (only,))
    if not leaks:
        return None
    where = max(leaks, key=lambda name: (leaks[name][0].low, name))
    worst, step = leaks[where]
    severity: Severity = (
        "advice" if _is_natural(record, worst) else "error" if worst.low > clear else "warning"
    )
    evidence = tuple(
        e.evidence("share of rows seen in training", least, name) for name, (e, _) in leaks.items()
    )
    return Finding(
        ID, severity, graded(worst.low, least, clear, least=0.75), tuple(leaks), (step, step), evidence
    )


def _is_natural(record: Record, seen: Estimate) -> bool:
    """Whether training rows repeat within an epoch about as often: few distinct rows exist."""
    repeats = finite(*record.series("data/duplicate_share"))[1]
    shares = [float(np.mean(repeats))] if len(repeats) else []
    shares += [float(event.data["copies"]) / float(event.data["rows"]) for event in record.events("table")]
    return bool(shares) and seen.low < 3 * max(shares)
