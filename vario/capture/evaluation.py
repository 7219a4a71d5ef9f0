"""Evaluation passes, seen through the loss functions that are called without gradients.

Sums stay on the device until the pass is over: at the next backward of training, when another
loader or a new round over this one begins, or at the end. Passes of different loaders are kept
apart; a script that evaluates without a DataLoader has one pass for all that it evaluates.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from vario.capture.loss_calls import example_mean
from vario.capture.losses import host_values
from vario.capture.needs import LossCall
from vario.capture.predictions import rows_of
from vario.nouns import Reading

__all__ = ["Evaluation"]

MOST_CLASSES = 1000  # more than these are not counted one by one


@dataclass
class _Pass:
    """Sums over the calls of one loss function on one loader."""

    loss: Any = 0.0  # sum over examples
    count: Any = 0
    right: Any = 0
    judged: Any = 0  # examples that accuracy was looked at for
    confidence: Any = 0.0
    class_right: Any = None
    class_count: Any = None
    modes: dict[str, tuple[int, int]] = field(default_factory=dict)
    seen: list[float] = field(default_factory=lambda: [0, 0])  # rows also seen in training, rows
    own: float = 0.0
    start: float = field(default_factory=time.perf_counter)
    calls: int = 0


class Evaluation:
    """Open passes; `close` gives their readings to `tell(readings)` and begins anew."""

    def __init__(self, tell: Callable[[list[Reading]], None], *, budget: float) -> None:
        self._tell = tell
        self._budget = budget
        self._passes: dict[tuple[str, str], _Pass] = {}
        self.training_losses: set[str] = set()  # the loss functions that training uses

    @property
    def open(self) -> bool:
        return bool(self._passes)

    def add(self, loader: str, call: LossCall, modes: Callable[[], dict[str, tuple[int, int]]]) -> None:
        """One call of a loss function without gradients, on a batch of `loader`."""
        begun = time.perf_counter()
        this = self._passes.get((loader, call.name))
        if this is None:
            this = self._passes[loader, call.name] = _Pass(modes=modes())
        mean, count = example_mean(call)
        this.loss = this.loss + mean.detach().float() * count  # not in place: it may be an inference tensor
        this.count = this.count + count
        this.calls += 1
        if this.own <= self._budget * (begun - this.start) or this.calls <= 3:
            _judge(this, call)
        this.own += time.perf_counter() - begun

    def asked(
        self, loader: str, rows: int, seen: float, of: float, modes: dict[str, tuple[int, int]]
    ) -> None:
        """A pass over `rows` rows without a loss function of torch's; a share of `of` of them was `seen`."""
        told = [Reading("eval/examples", rows, loader), Reading("eval/seen_share", seen, loader)]
        told.append(Reading("eval/seen_of", of, loader))
        self._tell(
            told + [Reading("mode/eval_share", on / total, kind) for kind, (on, total) in modes.items()]
        )

    def rows_seen(self, loader: str, seen: float, rows: float) -> None:
        """Of `rows` hashed rows of an evaluated batch, `seen` were seen in training."""
        for (where, _), this in self._passes.items():
            if where == loader:
                this.seen[0] += seen
                this.seen[1] += rows

    def close(self, loader: str | None = None) -> None:
        """End the passes over `loader` (None: all) and tell their readings."""
        ended = {key: this for key, this in self._passes.items() if loader is None or key[0] == loader}
        for key in ended:
            del self._passes[key]
        for where in dict.fromkeys(where for where, _ in ended):
            mine = {name: this for (there, name), this in ended.items() if there == where}
            trained = [name for name in mine if name in self.training_losses]
            self._tell(_readings(where, mine[(trained or list(mine))[0]]))


@torch.no_grad()
def _judge(this: _Pass, call: LossCall) -> None:
    """Add which examples were right, where outputs score classes (in dimension 1) or say yes or no."""
    output, target = call.output, call.target
    if call.name.startswith("binary_cross_entropy"):
        rows = rows_of([call])
        if rows is None:
            return
        output, target = rows.logits, rows.labels  # a single yes-or-no output as two classes
    elif call.name not in ("cross_entropy", "nll_loss") or target is None or target.is_floating_point():
        return
    if output.dim() < 1 or target.shape != output.shape[:1] + output.shape[2:]:
        return
    dim = 1 if output.dim() > 1 else 0
    valid = target != call.ignore_index
    top, guess = output.float().max(dim)
    chance = (top - output.float().logsumexp(dim)).exp()  # of log probabilities: themselves
    right = (guess == target) & valid
    this.right = this.right + right.sum()
    this.judged = this.judged + valid.sum()
    this.confidence = this.confidence + (chance * valid).sum()
    classes = output.shape[dim]
    if classes <= MOST_CLASSES and target.numel() * classes <= 1 << 20:
        each = target.reshape(-1, 1) == torch.arange(classes, device=target.device)
        zero = torch.zeros(classes, dtype=torch.int64, device=target.device)
        count = each.sum(0)
        this.class_count = (zero if this.class_count is None else this.class_count) + count
        hit = (each & right.reshape(-1, 1)).sum(0)
        this.class_right = (zero if this.class_right is None else this.class_right) + hit


def _readings(loader: str, this: _Pass) -> list[Reading]:
    sums = [this.loss, this.count, this.right, this.judged, this.confidence]
    tensors = host_values([s if isinstance(s, Tensor) else torch.tensor(float(s)) for s in sums])
    loss, count, right, judged, confidence = tensors
    readings = [Reading("eval/examples", count, loader)]
    if count:
        readings.append(Reading("eval/loss", loss / count, loader))
    if judged:
        readings.append(Reading("eval/accuracy", right / judged, loader))
        readings.append(Reading("eval/confidence", confidence / judged, loader))
    if this.class_count is not None and judged == count:
        readings.append(Reading("eval/class_correct", _list(this.class_right), loader))
        readings.append(Reading("eval/class_counts", _list(this.class_count), loader))
    if this.seen[1]:
        readings.append(Reading("eval/seen_share", this.seen[0] / this.seen[1], loader))
        readings.append(Reading("eval/seen_of", this.seen[1], loader))
    for kind, (train, total) in this.modes.items():
        readings.append(Reading("mode/eval_share", train / total, kind))
    return readings


def _list(counts: Tensor) -> list[float]:
    return [float(value) for value in counts.tolist()]
