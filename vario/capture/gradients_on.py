"""Evaluations that leave gradients on: losses that no backward follows.

A loss taken on the batch of a loader that has never trained, or by a model in eval mode, may belong to one.
Such losses are held until it shows. The next batch or a backward of another loader comes first: they were of
an evaluation. A backward on the same batch, or of a model still in eval mode: they were of training.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from vario.capture.needs import LossCall
from vario.capture.streams import Stream

if TYPE_CHECKING:
    from vario.capture.attach import Attachment

__all__ = ["GradientsOn", "in_eval_mode"]

MOST_HELD = 64  # losses on one batch, or of a script without loaders: their outputs are kept meanwhile


class _Held(NamedTuple):
    call: LossCall
    where: str
    rows: tuple[float, float]  # seen in training, of how many
    modes: dict[str, tuple[int, int]]


class GradientsOn:
    """Holds losses that may be of an evaluation, and tells of them when they are known to be."""

    def __init__(self, attachment: Attachment) -> None:
        self._all = attachment
        self._held: list[_Held] = []
        self._batch: Any = None  # of a loader, that they were taken on

    def may_evaluate(self) -> bool:
        """Whether a loss with gradients may be of an evaluation: between two steps, as the module says."""
        loaders, streams = self._all.loaders, self._all.streams
        if not streams or not self._all.gathered.batches.closed or self._all.inside is not None:
            return False
        return in_eval_mode(streams) if loaders.current is None else not loaders.current.trains

    def hold(self, call: LossCall) -> None:
        """Such a loss was taken."""
        loaders = self._all.loaders
        if self._held and loaders.batch is not self._batch:
            self.tell()
        self._batch = loaders.batch
        if len(self._held) == MOST_HELD:
            return
        if loaders.current is None:
            where, *rows = self._all.without_loader.loss_called(len(call.output) if call.output.dim() else 0)
        else:
            where, rows = loaders.where, [*loaders.seen_in_hand()]
            self._all.without_loader.told_elsewhere()
        self._held.append(_Held(call, where, (rows[0], rows[1]), self._all.modes()))

    def backward(self, trained: Callable[[LossCall], None]) -> None:
        """A backward begins. What is held is told, or `trained` gets each loss that it may be of."""
        if not self._held:
            return
        loaders = self._all.loaders
        by_mode = loaders.current is None and in_eval_mode(self._all.streams)
        if by_mode or (loaders.current is not None and loaders.batch is self._batch):
            for held in self._held:
                trained(held.call)
            self.forget()
        else:
            self.tell()

    def tell(self) -> None:
        """No backward came: what is held was of an evaluation."""
        held = self._held
        self.forget()
        for call, where, rows, modes in held:
            self._all.evaluation.add(where, call, lambda modes=modes: modes)  # type: ignore[misc]
            self._all.evaluation.rows_seen(where, *rows)

    def forget(self) -> None:
        """Keep no tensor alive."""
        self._held, self._batch = [], None


def in_eval_mode(streams: Sequence[Stream]) -> bool:
    """Whether a model that is trained is in eval mode."""
    models = [stream.model() for stream in streams if stream.model is not None]
    return any(model is not None and not model.training for model in models)
