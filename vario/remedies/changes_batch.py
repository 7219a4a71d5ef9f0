"""Plain changes of the batch: its size against the gradient noise, its order, its share of classes."""

from __future__ import annotations

import math

import numpy as np

from vario.nouns import Finding
from vario.record import Record
from vario.remedies.changes import (
    Change,
    Maker,
    evidence,
    exchange,
    hyper,
    loader,
    median,
    modules,
    optimizer,
    sized,
)
from vario.remedies.figures import number, percent, rounded, setting

__all__ = ["MAKERS"]

NOISE_SCALE = "P173"
LINEAR_SCALING, ROOT_SCALING = "P248", "P298"
GHOST_BATCH_NORM = "P238"
ADAPTIVE = ("Adam", "RMSprop", "Adagrad", "Lion", "NAdam", "RAdam", "Adafactor")


def too_small(finding: Finding, record: Record) -> list[Change]:
    return _resized(
        finding,
        record,
        "the gradient noise scale: below it, each doubling of the batch nearly halves the steps",
    )


def too_large(finding: Finding, record: Record) -> list[Change]:
    return _resized(
        finding,
        record,
        "the gradient noise scale: beyond it, more examples per step hardly make the step better",
    )


def batch_norm(finding: Finding, record: Record) -> list[Change]:
    size = median(record, "batch/size")
    count = len(modules(record, "BatchNorm"))
    seen = (
        f": {count} BatchNorm layers take mean and variance from {number(size)} examples" if size > 0 else ""
    )
    noise = (
        f" (the error of a variance from n examples is about sqrt(2/n): {percent(math.sqrt(2 / size))} here)"
        if size > 0
        else ""
    )
    kinds = ("BatchNorm1d", "BatchNorm2d", "BatchNorm3d")
    swap = exchange(record, "GroupNorm", *kinds)
    changes = [Change(f"BatchNorm -> GroupNorm or LayerNorm{seen}{noise}", swap, "P202")]
    if 0 < size < 32:
        rate = _rate_for(record, size, 32)  # as many epochs are fewer steps
        changes.append(
            Change(
                f"batch {number(size)} -> 32: the error of a variance falls to {percent(math.sqrt(2 / 32))}"
                + (f"; {rate.text}" if rate else ""),
                sized(record, 32, rate.setting if rate else ""),
            )
        )
    return changes


def unshuffled(finding: Finding, record: Record) -> list[Change]:
    seen = loader(record)
    if not seen:
        return [
            Change("draw the batches of each epoch in a new random order: torch.randperm(n).split(batch)")
        ]
    sampler = f" (its sampler is {seen['sampler']})" if seen.get("sampler") else ""
    return [Change(f"DataLoader(..., shuffle=True){sampler}", "loader.shuffle=true")]


def imbalance(finding: Finding, record: Record) -> list[Change]:
    counts = _class_counts(record)
    changes = []
    if counts is not None and counts.any():
        seen = counts > 0
        weights = np.ones(len(counts))  # one for each output, or the loss would not take them
        weights[seen] = counts.sum() / (seen.sum() * counts[seen])
        unseen = "" if seen.all() else "; classes that were not seen keep the weight 1"
        tried = counts.all() and not loader(record)  # else batches can be drawn anew, which did better
        named = ", ".join(number(float(w)) for w in weights[:10]) + (", ..." if len(weights) > 10 else "")
        changes.append(
            Change(
                f"weight the loss by the inverse share of each class: weight=torch.tensor([{named}]), from"
                f" {number(float(counts.sum()))} labels seen; the rarest class has"
                f" {percent(float(counts[seen].min() / counts.sum()))}{unseen}",
                f"loss.weight=({','.join(f'{w:.3g}' for w in weights)})" if tried else "",
            )
        )
    changes.append(
        Change(
            "or draw the rare classes more often: WeightedRandomSampler with the inverse shares;"
            " oversampling to equal"
            " shares was the best of the methods compared for conv nets",
            paper="P086",
        )
    )
    return changes


def neglected(finding: Finding, record: Record) -> list[Change]:
    counts = _class_counts(record)
    rare = ""
    if counts is not None and counts.sum():
        rare = f"; the rarest class has {percent(float(counts.min() / counts.sum()))} of the labels seen"
    return [
        Change(
            "look at the neglected classes: are their labels right, and do they look like another"
            f" class?{rare}"
        ),
        *(
            imbalance(finding, record)[:1]
            if counts is not None and counts.min() * len(counts) < 0.5 * counts.sum()
            else []
        ),
    ]


def _resized(finding: Finding, record: Record, why: str) -> list[Change]:
    """Batch brought to the noise scale (a power of two that the data have), and lr with it by the
    optimizer's rule."""
    size = median(record, "batch/size")
    noise = evidence(finding, "noise")
    if noise is None or not (noise.value > 0 and math.isfinite(noise.value)) or not size > 0:
        return [
            Change(
                "move the batch size by factors of two towards the gradient noise scale; it was not"
                " resolved here",
                paper=NOISE_SCALE,
            )
        ]
    most = loader(record).get("length") or math.inf
    goal = min(2 ** max(round(math.log2(noise.value)), 0), most)
    rate = _rate_for(record, size, goal)
    both = sized(record, goal, rate.setting if rate else "")
    change = Change(f"batch {number(size)} -> {goal}: {number(noise.value)} is {why}", both, NOISE_SCALE)
    return [change, Change(rate.text, paper=rate.paper)] if rate else [change]  # the rate is tried with it


def _rate_for(record: Record, size: float, goal: float) -> Change | None:
    """The rate that goes with another batch size, by the rule of the optimizer."""
    lr = hyper(record, "lr")
    if not lr > 0:
        return None
    adaptive = any(word in optimizer(record) for word in ADAPTIVE)
    factor = math.sqrt(goal / size) if adaptive else goal / size
    rule, paper = ("square root", ROOT_SCALING) if adaptive else ("ratio", LINEAR_SCALING)
    new = setting(rounded(lr * factor))
    return Change(
        f"with it lr {setting(lr)} -> {new}: by the {rule} of the batch sizes", f"optimizer.lr={new}", paper
    )


def _class_counts(record: Record) -> np.ndarray | None:
    """Labels seen of each class that the model can answer with."""
    steps, counts = record.series("batch/class_counts")
    if not len(steps) or counts.ndim != 2:
        return None
    answers = record.series("accuracy/predicted_counts")[1]
    missing = answers.shape[1] - counts.shape[1] if answers.ndim == 2 else 0
    return np.pad(counts.sum(axis=0), (0, max(0, missing)))


MAKERS: dict[str, Maker] = {
    "batch-too-small": too_small,
    "batch-too-large": too_large,
    "batchnorm-small-batch": batch_norm,
    "unshuffled-data": unshuffled,
    "class-imbalance": imbalance,
    "class-neglected": neglected,
}
