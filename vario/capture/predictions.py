"""What a step's loss functions were given, seen as predictions and labels, one row to an example.

An example is what has a label of its own: a picture, a token, a pixel. Everything is taken from the
arguments of the loss function, so a loss of the user's own making has no predictions here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from vario.capture.needs import LossCall, Pending

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "REGRESSION_LOSSES",
    "CLASSES",
    "Examples",
    "LogitRanges",
    "Rows",
    "abnormal_share",
    "class_counts",
    "class_weights",
    "examples",
    "logit_ranges",
    "regression_labels",
    "regression_losses",
    "regression_pairs",
    "regression_targets",
    "rows_of",
]

CLASSES = 1000  # more than this are not counted one by one
_ENTRIES = 1 << 22  # logits read at one step; beyond it, evenly spaced rows
_CLASS_LOSSES = ("cross_entropy", "nll_loss")
_TWO_CLASS_LOSSES = ("binary_cross_entropy_with_logits", "binary_cross_entropy")
REGRESSION_LOSSES = ("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss")


@dataclass(frozen=True, slots=True)
class Rows:
    """Outputs as logits (n, classes) and labels: class numbers (n,) or shares (n, classes)."""

    logits: Tensor
    labels: Tensor


@dataclass(frozen=True, slots=True)
class Examples:
    """One number to an example, on the host; ``label`` is the label's class, ``guess`` the likeliest."""

    classes: int
    loss: NDArray[np.float64]
    error_norm: NDArray[np.float64]
    margin: NDArray[np.float64]
    entropy: NDArray[np.float64]
    label_probability: NDArray[np.float64]
    label: NDArray[np.float64]
    guess: NDArray[np.float64]


class LogitRanges(NamedTuple):
    """Of what the loss function was given; the sums are those of rows, None where rows have no classes."""

    largest: float
    smallest: float
    mean_sum: float | None
    sum_deviation: float | None


def rows_of(calls: Sequence[LossCall]) -> Rows | None:
    """The rows of all calls that are alike (same function, same classes) to the first with classes."""
    found: list[Rows] = []
    first: LossCall | None = None
    for call in calls:
        rows = _rows(call) if first is None or call.name == first.name else None
        if rows is None or rows.logits.shape[0] == 0:
            continue
        if found and (rows.logits.shape[1:], rows.labels.ndim) != (
            found[0].logits.shape[1:],
            found[0].labels.ndim,
        ):
            continue
        first = first or call
        found.append(rows)
    if not found:
        return None
    return Rows(torch.cat([rows.logits for rows in found]), torch.cat([rows.labels for rows in found]))


def examples(rows: Rows) -> Pending:
    """Loss, error norm, margin, entropy and classes of (evenly spaced) rows."""
    every = -(-rows.logits.numel() // _ENTRIES)
    logits, labels = rows.logits[::every], rows.labels[::every]
    classes = logits.shape[1]
    # in the dtype that the loss worked in: where a loss is exactly 0 there, it is 0 here
    log_p = torch.log_softmax(logits, dim=1).float()
    p = log_p.exp()
    if labels.ndim == 1:
        label = labels
        shares = torch.zeros_like(p).scatter_(1, label[:, None], 1.0)
        loss = -log_p.gather(1, label[:, None])[:, 0]
    else:
        shares = labels.float()
        label = shares.argmax(dim=1)
        loss = -(shares * log_p).nan_to_num(nan=0.0, posinf=None, neginf=None).sum(dim=1)
    label_p = p.gather(1, label[:, None])[:, 0]
    others = p.scatter(1, label[:, None], -1.0).amax(dim=1)
    columns = [
        loss,
        torch.linalg.vector_norm(p - shares, dim=1),
        label_p - others,
        torch.special.entr(p).sum(dim=1),
        label_p,
        label,
        p.argmax(dim=1),
    ]
    return Pending(columns, lambda host: Examples(classes, *host))


def abnormal_share(attacks: Sequence[LossCall], calls: Sequence[LossCall]) -> Pending | None:
    """Share of the examples whose loss is lower in the first call than in the first attack before it."""
    before, after = rows_of(attacks[:1]), rows_of(calls[:1])
    if before is None or after is None or len(before.labels) != len(after.labels):
        return None
    losses = []
    for rows in (before, after):
        log_p = torch.log_softmax(rows.logits, dim=1)
        hard = rows.labels.ndim == 1
        shares = torch.zeros_like(log_p).scatter_(1, rows.labels[:, None], 1.0) if hard else rows.labels
        losses.append(-(shares * log_p).nan_to_num(nan=0.0, posinf=None, neginf=None).sum(dim=1))
    return Pending([(losses[1] < losses[0]).float().mean()], lambda host: float(host[0][0]))


def regression_losses(calls: Sequence[LossCall]) -> Pending | None:
    """Loss of each example of a regression: mean over its outputs, by the function that was called."""
    losses = []
    for call in calls:
        if call.name in REGRESSION_LOSSES and call.target is not None and call.output.ndim > 0:
            function = getattr(torch.nn.functional, call.name)
            shape = np.broadcast_shapes(call.output.shape, call.target.shape)
            output, target = call.output.detach().expand(shape), call.target.detach().expand(shape)
            each = function(output.float(), target.float(), reduction="none")
            losses.append(each.flatten(1).mean(dim=1) if each.ndim > 1 else each)
    return Pending([torch.cat(losses)], lambda host: host[0]) if losses else None


def regression_labels(calls: Sequence[LossCall]) -> Pending | None:
    """The target of each example of a regression, in the order of its losses, where it is one number."""
    targets = [c.target.detach() for c in calls if c.name in REGRESSION_LOSSES and c.target is not None]
    if not targets or any(target.ndim == 0 or target.numel() != len(target) for target in targets):
        return None
    return Pending([torch.cat([target.reshape(-1).float() for target in targets])], lambda host: host[0])


def regression_targets(calls: Sequence[LossCall]) -> list[Tensor]:
    """Targets that are numbers, of the losses that are meant for numbers."""
    found = [call.target for call in calls if call.name in REGRESSION_LOSSES and call.target is not None]
    return [target for target in found if target.is_floating_point()]


def regression_pairs(calls: Sequence[LossCall]) -> float | None:
    """How many targets each output is held against: 1, or N where shapes (N, 1) and (N) pair all with all."""
    pairs = []
    for call in calls:
        if call.name in REGRESSION_LOSSES and call.target is not None and call.target.numel():
            each = max(call.output.numel(), call.target.numel())  # one of them may be spread over the other
            pairs.append(math.prod(np.broadcast_shapes(call.output.shape, call.target.shape)) / each)
    return max(pairs, default=None)


def class_counts(rows: Rows) -> Pending | None:
    """How many labels of each class all micro-batches of the step had."""
    classes = rows.logits.shape[1]
    if classes > CLASSES or rows.labels.ndim != 1:
        return None
    return Pending([torch.bincount(rows.labels, minlength=classes)], lambda host: host[0].tolist())


def class_weights(calls: Sequence[LossCall]) -> Pending | None:
    """What the loss multiplies the examples of each class by, where it was given weights of classes."""
    for call in calls:
        weight = call.weight
        if weight is None or not weight.numel() or weight.numel() > CLASSES:
            continue
        if call.name in _CLASS_LOSSES and call.output.ndim > 1 and weight.shape == call.output.shape[1:2]:
            return Pending([weight.detach().float()], lambda host: host[0].tolist())
        if call.name == "binary_cross_entropy_with_logits" and weight.numel() == 1:
            return Pending([weight.detach().reshape(-1).float()], lambda host: [1.0, *host[0].tolist()])
    return None


def logit_ranges(calls: Sequence[LossCall]) -> Pending | None:
    """Extremes of what classification losses were given, and how far its rows are from summing to 1."""
    names = (*_CLASS_LOSSES, *_TWO_CLASS_LOSSES)
    outputs = [c.output.detach() for c in calls if c.name in names and c.output.numel()]
    outputs = [output.float() for output in outputs if output.is_floating_point()]
    if not outputs:
        return None
    ends = [end for output in outputs for end in torch.aminmax(output)]
    many = [output for output in outputs if output.ndim > 1 and output.shape[1] > 1]
    sums = [torch.cat([output.sum(dim=1).reshape(-1) for output in many])] if many else []
    parts = [torch.stack(ends), *(part for s in sums for part in (s.mean(), (s - 1).abs().mean()))]

    def finish(host: list[NDArray[np.float64]]) -> LogitRanges:
        low, high = host[0].reshape(-1, 2).T
        mean, deviation = (float(part[0]) for part in host[1:]) if many else (None, None)
        return LogitRanges(float(high.max()), float(low.min()), mean, deviation)

    return Pending(parts, finish)


def _rows(call: LossCall) -> Rows | None:
    output, target = call.output.detach(), call.target
    if target is None or not output.is_floating_point():
        return None
    target = target.detach()
    if call.name in _TWO_CLASS_LOSSES:
        return _two_classes(call.name, output, target)
    if call.name not in _CLASS_LOSSES or output.ndim == 0:
        return None
    if output.ndim == 1:  # a single example without a batch axis
        output, target = output[None], target[None]
    classes = output.shape[1]
    logits = output.movedim(1, -1).reshape(-1, classes)
    if target.is_floating_point():
        return Rows(logits, target.movedim(1, -1).reshape(-1, classes))
    labels = target.reshape(-1).long()
    if labels.numel() != logits.shape[0]:
        return None
    known = (labels != call.ignore_index) & (labels >= 0) & (labels < classes)
    return Rows(logits[known], labels[known])


def _two_classes(name: str, output: Tensor, target: Tensor) -> Rows | None:
    """Each yes-or-no output as two classes; of several to an example only where they are tags: 0 or 1."""
    if output.numel() != target.numel() or output.ndim > 2:
        return None
    if output.ndim == 2 and output.shape[1] > 1 and not bool(((target == 0) | (target == 1)).all()):
        return None
    yes = output.reshape(-1)
    if name == "binary_cross_entropy":
        yes = torch.logit(yes).clamp(-100, 100)  # as the loss holds its logarithms, of 0 and 1 as well
    return Rows(torch.stack([torch.zeros_like(yes), yes], dim=1), (target.reshape(-1) > 0.5).long())
