"""Which evaluation is held-out data, and how well the model did on it, pass by pass.

A script may evaluate on several loaders, one of them its own training data. What counts as held out
is the loader whose rows training has not seen; where rows could not be hashed, it is taken at its word.
Where right answers are counted by hand, the accuracy that the script prints of held-out data stands for them.
"""

from __future__ import annotations

import numpy as np

from vario.nouns import NotApplicable
from vario.record import Record
from vario.rules._evidence import Estimate, Floats, Steps, finite
from vario.rules._examples import class_totals, rate
from vario.rules._printed import printed_accuracy

__all__ = ["accuracy_at", "examples_of", "held_out", "is_seen", "passes", "per_class"]

UNKNOWN = 100  # examples of an evaluation that nothing tells the size of


def is_seen(record: Record, where: str, *, limit: float = 0.9) -> bool:
    """Whether a loader shows what was trained on: the whole data set that training draws from, or rows of
    which more than ``limit`` were seen.

    The largest share counts: before training has gone through its data once, the others are too small.
    """
    if where in record.once("loaders of training data", lambda: _of_training_data(record)):
        return True
    seen = finite(*record.series("eval/seen_share", where))[1]
    return bool(len(seen) and seen.max() > limit)


def _of_training_data(record: Record) -> set[str]:
    """The other loaders of a whole data set where training draws from the whole of the same."""
    whole = {e.where: e.data.get("data") for e in record.events("loader") if e.data.get("whole")}
    trains = {event.where for event in record.events("epoch")}
    trained = {whole[where] for where in trains & set(whole)}
    return {where for where, data in whole.items() if data in trained} - trains


def held_out(record: Record, name: str, count: int = 1) -> str:
    """The loader of held-out data with the most passes of series ``name``, at least ``count``."""
    lengths = {where: _readings(record, name, where) for where in record.wheres(name)}
    lengths = {where: length for where, length in lengths.items() if length}
    if not lengths:
        raise NotApplicable(f"no evaluation with {name} was seen")
    unseen = {where: length for where, length in lengths.items() if not is_seen(record, where)}
    unseen = {where: length for where, length in unseen.items() if not _came_too_early(record, name, where)}
    if not unseen:
        raise NotApplicable("every evaluation was of rows that training had seen; held-out data are needed")
    # A script that evaluates without a loader is recorded under the loader it trained from last, so a
    # loader of training is believed to be held out only where there is no other.
    trains = {event.where for event in record.events("epoch")}
    apart = {where: length for where, length in unseen.items() if where not in trains}
    unseen = apart or unseen
    where = max(unseen, key=lambda w: (unseen[w], np.nan_to_num(record.last("eval/examples", w)), w))
    if unseen[where] < count:
        raise NotApplicable(f"{unseen[where]} evaluations with {name}; {count} are needed")
    return where


def passes(record: Record, name: str, count: int = 1) -> tuple[str, Steps, Floats]:
    """The held-out loader with its finite readings of ``name``; or what is printed as such an accuracy."""
    try:
        where = held_out(record, name, count)
    except NotApplicable:
        printed = printed_accuracy(record) if name == "eval/accuracy" else None
        if printed is None or len(printed[1]) < count:
            raise
        return printed
    return where, *finite(*record.series(name, where))


def examples_of(record: Record, where: str) -> float:
    """Held-out examples of one pass; 1 stands for "hardly known".

    Of a printed accuracy it is the smallest evaluation that was seen, or few where none was.
    """
    if where in record.wheres("eval/examples") or where in record.wheres("eval/accuracy"):
        count = record.last("eval/examples", where)
        return count if count >= 1 else 1
    others = [
        record.last("eval/examples", w) for w in record.wheres("eval/examples") if not is_seen(record, w)
    ]
    return min((count for count in others if count >= 1), default=UNKNOWN)


def accuracy_at(record: Record, where: str, step: float) -> Estimate:
    """Held-out accuracy of the pass at ``step`` (the last one not after it), with its interval."""
    steps, values = finite(*record.series("eval/accuracy", where))
    printed = printed_accuracy(record)
    if not len(steps) and printed is not None and printed[0] == where:
        steps, values = printed[1:]
    inside = np.flatnonzero(steps <= step)
    if not len(inside):
        raise NotApplicable(f"no evaluation of accuracy up to step {step:.0f}")
    return rate(float(values[inside[-1]]), examples_of(record, where))


def per_class(record: Record) -> tuple[int, Floats, Floats, str]:
    """Step, right and counted examples per class: of the last evaluation, else of the end of training."""
    try:
        where = held_out(record, "eval/class_counts")
        steps, counts = record.series("eval/class_counts", where)
        _, right = record.series("eval/class_correct", where)
        if right.ndim == 2 and right.shape == counts.shape:
            return int(steps[-1]), right[-1], counts[-1], where
    except NotApplicable:
        where = ""  # nothing was held out; the training batches must do
    right_steps, right = record.series("accuracy/class_correct")
    steps, counts = class_totals(record)
    both, a, b = np.intersect1d(right_steps, steps, return_indices=True)
    if not len(both) or right.ndim != 2 or right.shape[1] != counts.shape[1]:
        raise NotApplicable("no accuracy per class was recorded, neither at evaluations nor in training")
    last = slice(-max(len(both) // 10, 5), None)
    return int(both[-1]), right[a][last].sum(axis=0), counts[b][last].sum(axis=0), where


def _came_too_early(record: Record, name: str, where: str) -> bool:
    """Whether passes ended where those of training rows begin: whose rows they were was not known yet."""
    of_training, mine = record.series(name, "training data")[0], record.series(name, where)[0]
    return bool(len(of_training) and len(mine) and mine[-1] < of_training[0])


def _readings(record: Record, name: str, where: str) -> int:
    """How many readings of a series, of one value or of many, are finite."""
    values = record.series(name, where)[1]
    return int(np.isfinite(values.reshape(len(values), -1)).all(axis=1).sum()) if values.size else 0
