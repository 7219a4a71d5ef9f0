"""The loss that a compiled model takes of its own output, and gives back with it.

No loss function is heard inside a compiled region. But where a model gives a loss and scores, and was given
labels, it can be told whether one is the cross-entropy of the others: the value says so. Then the call is
known as if it had been heard: labels, scores, the loss of evaluations. Asked again at calls 2, 4, 8, ...
"""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vario.capture.rows import batch_tensors
from vario.capture.shards import is_here

if TYPE_CHECKING:
    from vario.capture.attach import Attachment

__all__ = ["LossWithin"]

TRIES = 4  # calls in which no loss was recognised, after which the model is not looked at again
MOST_TENSORS = 16  # that are looked at among arguments, and in the answer
ROWS = 1 << 22  # entries of scores that are read at once
IGNORED = (-100, -1)  # labels that stand for none: torch's own, and the one that many scripts use
CLOSE = {torch.float64: 1e-6, torch.float32: 1e-4}  # relative; scores in sixteen bits are rounded ones
COARSE = 5e-3


class _Way(NamedTuple):
    """Which tensors of the answer are loss and scores, which argument the labels; how they are laid out."""

    loss: int
    scores: int
    labels: int
    next: bool  # the scores of each place are for the label of the next
    ignored: int
    over: int | None = None  # which number among the arguments the sum is divided by, where it is no mean


class _Model:
    way: _Way | None = None
    calls = 0
    failed = 0


class LossWithin:
    """Tells the attachment of the calls of cross-entropy inside compiled models."""

    def __init__(self, attachment: Attachment) -> None:
        self._all = attachment
        self._models: dict[int, _Model] = {}

    def answered_outside(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any
    ) -> None:
        """A compiled model has answered."""
        if isinstance(output, Tensor) or (torch.is_grad_enabled() and not self._all.keeps_calls):
            return
        model = self._models.setdefault(id(module), _Model())
        if model.failed >= TRIES:
            return
        given, answer = (
            [t for t in batch_tensors(part)[:MOST_TENSORS] if is_here(t)]
            for part in ([*args, kwargs], output)
        )
        labels = [t for t in given if t.dtype in (torch.int64, torch.int32) and t.dim()]
        losses = [t for t in answer if t.is_floating_point() and not t.dim()]
        scores = [t for t in answer if t.is_floating_point() and t.dim() > 1]
        if not (labels and losses and scores):
            return
        numbers = [v for v in (*args, *kwargs.values()) if _is_number(v)]
        model.calls += 1
        if model.calls & (model.calls - 1) == 0:
            with torch.no_grad():
                model.way = _found(losses, scores, labels, [float(v) for v in numbers])
            model.failed += model.way is None
        if (way := model.way) is None or max(way.labels - len(labels), way.scores - len(scores)) >= 0:
            return
        laid_out = _laid_out(scores[way.scores], labels[way.labels], next=way.next)
        if laid_out is None or way.loss >= len(losses) or (way.over or 0) >= max(len(numbers), 1):
            return
        more: dict[str, Any] = {"ignore_index": way.ignored}
        loss = losses[way.loss]
        if way.over is not None:
            more["reduction"], loss = "sum", loss * numbers[way.over]
        self._all.loss_called("cross_entropy", F.cross_entropy, laid_out, more, loss)


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) or isinstance(value, Tensor) and not value.dim()


def _found(
    losses: list[Tensor], scores: list[Tensor], labels: list[Tensor], numbers: list[float]
) -> _Way | None:
    """The first way in which a loss is the cross-entropy of scores and labels; labels come last as a rule."""
    given = [float(loss) for loss in losses]
    for s, n, next in product(range(len(scores)), reversed(range(len(labels))), (False, True)):
        close = CLOSE.get(scores[s].dtype, COARSE)
        laid_out = _laid_out(scores[s], labels[n], next=next)
        for total, count, ignored in _cross_entropies(*laid_out) if laid_out is not None else ():
            for (over, number), (place, loss) in product(
                [(None, count), *enumerate(numbers)], enumerate(given)
            ):
                if abs(total - number * loss) <= close * abs(total):
                    return _Way(place, s, n, next, ignored, over)
    return None


def _laid_out(scores: Tensor, labels: Tensor, *, next: bool) -> tuple[Tensor, Tensor] | None:
    """Scores (rows, classes) and labels (rows); None where they do not belong together."""
    if scores.shape[:-1] != labels.shape or labels.device != scores.device:
        return None
    if next:
        if labels.dim() < 2 or labels.shape[1] < 2:
            return None
        scores, labels = scores[:, :-1], labels[:, 1:]
    return scores.reshape(-1, scores.shape[-1]), labels.reshape(-1).long()


def _cross_entropies(scores: Tensor, labels: Tensor) -> list[tuple[float, int, int]]:
    """Sum over rows whose label is not ignored, their number, and which it is; none where one is no class."""
    classes, found = scores.shape[1], []
    for ignored in IGNORED:
        known = labels != ignored
        count = int(known.sum())
        if not count or bool(((labels < 0) | (labels >= classes))[known].any()):
            continue
        safe, total = labels.where(known, 0)[:, None], 0.0
        for rows, label, counts in zip(
            *(part.split(max(1, ROWS // classes)) for part in (scores, safe, known)), strict=True
        ):
            rows = rows.float() if rows.element_size() < 4 else rows
            each = torch.logsumexp(rows, 1) - rows.gather(1, label)[:, 0]
            total += float(each.double() @ counts.double())
        found.append((total, count, ignored))
        if count == len(labels):
            break  # none is ignored: the other reading is the same
    return found
