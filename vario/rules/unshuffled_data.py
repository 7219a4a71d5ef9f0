"""Training batches are not mixed: they come sorted, or in the same order every epoch.

What it means: a batch of one class pulls every weight towards that class; the next batch pulls elsewhere.
The model forgets in turns and ends with what it saw last. A fixed order of mixed data is milder: steps
repeat their errors at the same places. ``shuffle=True`` in the loader mends both.
How it is decided: (1) the correlation of classes within a batch (0 in random batches, 1 in batches of one
class) is above 0.3 at the low end of its interval; with real-valued targets, the share of their variance that
lies between batches, where the loader does not shuffle, or where there is none and batches are cut from a
table of the script (a drift in a straight line does not count: targets that a model gives move in time). (2)
otherwise, the loader does not shuffle or was not seen, and from the second epoch on the same rows come in the
same order. Where no loader tells of rows and epochs, batches are known again by the exact mean of their
inputs or targets, and an epoch by the number of steps after which they return. (1) is an error where its
value is above 0.5 and a warning below; (2) is advice.
Not applicable: fewer than 5 batches whose classes were counted, and no second epoch whose order was seen.
"""

from __future__ import annotations

import numpy as np

from vario.nouns import Evidence, Finding, NotApplicable, Severity
from vario.record import Record
from vario.rules._evidence import Estimate, exactly, finite, reach, share
from vario.rules._examples import batch_size, graded, has_positions
from vario.rules._mixing import sorting
from vario.rules._model import training_loaders

ID = "unshuffled-data"
MOST = 1_000  # readings that are held against one another: half a million pairs
CARD = {
    "papers": (),
    "reads": (
        "batch/class_counts",
        "data/same_order",
        "target/mean",
        "target/std",
        "input/mean",
        "batch/size",
    ),  # fmt: skip
    "checked": "closed form",
    "changed": "",
    "summary": "The classes of a training batch have a correlation of {sorting of batches} "
    "(0 when shuffled, 1 when each holds one class); {share of batches in the same order} of the "
    "batches repeat the order of the epoch before.",
}


def check(
    record: Record,
    *,
    sorted_limit: float = 0.3,  # samplers that pick a few classes per batch on purpose reach about 0.1
    clear: float = 0.5,
    repeated: float = 0.9,  # of the batches, so that a few equal ones by chance do not count
    readings: int = 5,
) -> Finding | None:
    """A finding where batches are sorted, or repeat their order."""
    evidence: list[Evidence] = []
    mixed = (
        None
        if has_positions(record)
        else sorting(record, readings=readings) or _sorted_targets(record, readings)
    )
    same = _same_order(record, readings) or _returning(record, readings)
    if same is not None:
        evidence.append(same.evidence("share of batches in the same order", repeated))
    if mixed is None and same is None:
        raise NotApplicable(
            f"fewer than {readings} batches with classes counted, and no second epoch was seen"
        )
    shuffles = [loader.get("shuffle") for loader in training_loaders(record)]
    if shuffles and None not in shuffles:
        evidence.append(exactly("loaders that shuffle", float(sum(map(bool, shuffles))), 1.0))
    span = (0, max(record.step_count - 1, 0))
    if mixed is not None and mixed.low > sorted_limit:
        severity: Severity = "error" if mixed.low > clear else "warning"
        return Finding(
            ID,
            severity,
            graded(mixed.low, sorted_limit, 0.6, least=0.75, most=0.97),
            (),
            span,
            (mixed.evidence("sorting of batches", sorted_limit), *evidence),
        )
    if same is not None and same.low > repeated and not any(shuffles):
        return Finding(ID, "advice", 0.8, (), span, tuple(evidence))
    return None


def _same_order(record: Record, readings: int) -> Estimate | None:
    """Share of batches with the rows of an epoch ago; None where that is unknown or natural."""
    _, values = finite(*record.series("data/same_order"))
    for loader in training_loaders(record):
        length, size = loader.get("length"), loader.get("batch_size")
        if length and size and length <= size:
            return None  # the whole data in one batch have no order
    if len(values) < readings:
        return None
    known = values[np.argmax(values > 0) :] if (values > 0).any() else values
    return share(known > 0.5)


def _returning(record: Record, readings: int) -> Estimate | None:
    """Share of pairs of batches, a whole number of epochs apart, that are equal; None where none ever is.

    Means of many numbers are equal to the last bit for equal batches only. What returns by chance does so
    after any number of steps; then an "epoch" is one step, which is no order.
    """
    if training_loaders(record):
        return None  # the rows themselves are better witnesses
    for name in ("input/mean", "target/mean"):
        steps, means = (part[-MOST:] for part in finite(*record.series(name)))
        first, second = np.triu_indices(len(means), 1)
        equal = means[first] == means[second]
        if not equal.any():
            continue
        gaps = steps[second] - steps[first]
        epoch = int(np.gcd.reduce(gaps[equal]))
        if epoch >= readings:
            part = float(equal[gaps % epoch == 0].mean())
            return Estimate(part, part, part) if equal.sum() >= readings else None  # counted, not estimated
    return None


def _sorted_targets(record: Record, readings: int) -> Estimate | None:
    """Share of the variance of real targets that lies between batches, less what chance puts there."""
    loaders = training_loaders(record)
    if any(loader.get("shuffle") is not False for loader in loaders):
        return None
    if not loaders and not record.events("table"):
        return None  # targets that move in time (as in reinforcement learning) look the same
    steps, means = finite(*record.series("target/mean"))
    at, stds = finite(*record.series("target/std"))
    both, a, b = np.intersect1d(steps, at, return_indices=True)
    size = batch_size(record)
    if len(both) < readings or not size > 1:
        return None
    drift = 0.0 if loaders else np.polyval(np.polyfit(both, means[a], 1), both)
    between, within = float((means[a] - drift).var()), float((stds[b] ** 2).mean())
    if not between + within > 0:
        return None
    value = max(0.0, between - within / size) / (between + within)
    # Relative error of a variance from n values: sqrt(2 / n).
    half = reach() * value * (1 - value) * np.sqrt(2 / len(both)) * 2
    return Estimate(value, max(value - half, 0.0), min(value + half, 1.0))
