"""Whether harm is shown: only then is a finding an error or a warning.

Most rules infer an illness from its signs (large steps, dead units, small gradients, a short schedule). A
healthy run of a kind that nobody thought of shows such signs too, each time others. So what merely infers is
advice while the run does well, however sure its interval is. A rule whose CARD says ``"harm": True`` keeps
its severity: what it tells is itself the harm, read off (gradients that were never cleared, parameters in no
optimizer, a second softmax, test data in training) or measured with its interval (a share of labels that are
wrong, a held-out loss that rose from its best, rare classes that are not recognised). With the name of an
evidence in place of True the severity is kept where that evidence was found.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from vario.nouns import Finding, NotApplicable
from vario.record import Record
from vario.rules._course import Course, began_trained, course
from vario.rules._evidence import Floats, finite, level
from vario.rules._examples import class_totals
from vario.rules._parameters import running_max

__all__ = ["is_harmed", "largest_step", "weighed"]


def weighed(finding: Finding, card: dict[str, Any], record: Record, *, alone: bool = True) -> Finding:
    """The finding; as advice where it merely infers an illness and the run shows no harm."""
    harm = card.get("harm")
    shown = harm is True or harm in [evidence.name for evidence in finding.evidence]
    if finding.severity == "advice" or shown or is_harmed(record, alone=alone):
        return finding
    return replace(finding, severity="advice")


def is_harmed(
    record: Record,
    *,
    alone: bool = True,
    large: float = 0.01,  # of the weights: usual steps are 0.0001 to 0.01
    lost: float = 0.15,  # of all that was won; noise around a floor moves the level by a few per cent
    little: float = 0.2,  # of what a guess costs: of 215 healthy runs two had won less, none with a sign
) -> bool:
    """Whether the training broke, lost again what it had won, or has won next to nothing.

    A loss that rises without one large step was not driven up by training: its objective has changed (a term
    that is weighted more and more, targets that grow). One that stays where it is while answers become right
    measures something else; one that began far below a guess had won before. Of several models trained
    together (``alone`` is False) no loss needs to fall.
    """
    try:
        run = course(record, count=3)
    except NotApplicable:
        return False
    if run.state == "non-finite":
        return True
    if not alone:
        return False
    if run.state != "worse" and not began_trained(record, run) and _most_won(record, run) < little:
        return True
    return (run.state == "worse" or _lost_again(run, lost)) and largest_step(record) > large


def _lost_again(run: Course, part: float) -> bool:
    won, again = run.start.value - run.lowest, run.end.low - run.lowest
    return run.lowest >= 0 and won > 0 and again > max(part * won, 2 * run.noise)


def largest_step(record: Record) -> float:
    """The largest change of the weights by a step, median of three; infinite where none was read."""
    steps, ratio = finite(*record.series("update/ratio"))
    return running_max(steps, ratio)[1] if len(ratio) else np.inf


def _most_won(record: Record, run: Course) -> float:
    """The largest share of what a guess costs that is gone: in training, evaluation, or right answers."""
    guess = float(np.fmin(run.start.value, run.chance))
    floor = min(0.0, run.lowest)
    now = [float(np.median(v[-3:])) for v in _held_out(record, "eval/loss") if len(v)]
    shares = [run.won, *((guess - value) / max(guess - floor, 1e-30) for value in now)]
    totals = class_totals(record)[1].sum(axis=0)
    if len(totals) > 1:
        common = float(totals.max() / totals.sum())
        trained = finite(*record.series("accuracy/train"))[1]
        right = [level(trained[-max(len(trained) // 10, 5) :]).low] if len(trained) >= 5 else []
        right += [float(np.median(v[-3:])) for v in _held_out(record, "eval/accuracy") if len(v)]
        shares += [(value - common) / max(1 - common, 1e-9) for value in right]
    return max((share for share in shares if np.isfinite(share)), default=np.inf)


def _held_out(record: Record, name: str) -> list[Floats]:
    return [finite(*record.series(name, where))[1] for where in record.wheres(name)]
