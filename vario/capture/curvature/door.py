"""What the second derivatives of a running loop are, at the steps of which they are wanted.

They are taken before the script's own backward, from the first micro-batch of the step, and offered with
the step. A need that cannot be met is offered as the reason, in ``refused``: nothing of it reaches the
script, and nothing that the script can see is changed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from vario.capture.curvature import measures
from vario.capture.curvature.kept import KeptGraph
from vario.capture.needs import KEEP
from vario.capture.streams import Stream
from vario.nouns import NotApplicable

if TYPE_CHECKING:
    from vario.capture.attach import Attachment

__all__ = ["NEEDS", "CurvatureDoor"]

NEEDS = frozenset(measures.MEASURES)


@dataclass(eq=False)
class _Known:
    """Of one stream."""

    offered: dict[str, Any] = field(default_factory=dict)
    before: tuple[int, list[Tensor]] | None = None  # step, weights when it began
    told: set[str] = field(default_factory=set)
    vectors: dict[str, Tensor] = field(default_factory=dict)  # where the next search for an end begins


class CurvatureDoor:
    """`before` a backward; `of` is what the step that ends has to offer."""

    def __init__(self, attachment: Attachment) -> None:
        self._all = attachment
        self._known: dict[Stream, _Known] = {}
        self._off = False

    def before(self, tensors: Any, *, hooked: bool) -> None:
        """A backward is about to run; the micro-batch is among those gathered. `hooked`: by the script."""
        if self._off or len(self._all.gathered.batches.members) != 1:
            return
        for stream in self._all.streams:
            wanted = NEEDS & stream.wanted
            if wanted:
                known = self._known.setdefault(stream, _Known())
                try:
                    known.offered = self._take(stream, known, tensors, wanted, hooked)
                except Exception as error:  # switched off alone: the rest of what is heard goes on
                    self._off, self._known = True, {}
                    self._all.fail("curvature", error)
                    return

    def of(self, stream: Stream) -> dict[str, Any]:
        """Of the step that ends; before the optimizer moves."""
        known = self._known.get(stream)
        if KEEP in stream.wanted:
            known = self._known.setdefault(stream, _Known())
            known.before = (stream.step, [parameter.detach().clone() for parameter in stream.params])
        if known is None:
            return {}
        offered, known.offered = known.offered, {}
        return offered

    def _take(
        self, stream: Stream, known: _Known, tensors: Any, wanted: frozenset[str], hooked: bool
    ) -> dict[str, Any]:
        loss, scale = self._unscaled(tensors, stream)
        names = {id(p): name for p, name in zip(stream.params, stream.names, strict=True)}
        found: dict[str, Any] = {}
        try:
            if stream.sharded:
                raise NotApplicable(
                    "the parameters are shards of weights that are put together for each pass"
                )
            if hooked:
                raise NotApplicable("the script put hooks on tensors of this step, which would run again")
            with torch.autocast(device_type=_device(stream), enabled=False), torch.enable_grad():
                with KeptGraph(loss, names, scale=scale) as kept:
                    step = measures.Step(
                        kept,
                        stream.params,
                        optimizer=stream.optimizers[0]() if len(stream.optimizers) == 1 else None,
                        before=known.before[1]
                        if known.before and known.before[0] == stream.step - 1
                        else None,
                        inputs=stream.inputs,
                        found=known.vectors,
                    )
                    for need in sorted(wanted):
                        found[need] = self._one(stream, known, need, step)
        except NotApplicable as reason:
            for need in sorted(wanted):
                self._refuse(stream, known, need, str(reason))
        return {need: value for need, value in found.items() if value is not None}

    def _one(self, stream: Stream, known: _Known, need: str, step: measures.Step) -> Any:
        try:
            return measures.MEASURES[need](step)
        except (NotApplicable, ArithmeticError) as reason:
            self._refuse(stream, known, need, str(reason))
        except (RuntimeError, MemoryError) as error:  # out of memory, or an operation without derivative
            self._refuse(stream, known, need, f"{type(error).__name__}: {str(error).splitlines()[0][:200]}")
        return None

    def _refuse(self, stream: Stream, known: _Known, need: str, reason: str) -> None:
        if f"{need}: {reason}" not in known.told:
            known.told.add(f"{need}: {reason}")
            self._all.observer.event(stream, "refused", need, {"reason": reason})

    def _unscaled(self, tensors: Any, stream: Stream) -> tuple[Any, float]:
        """The loss, and what it is multiplied by: a GradScaler's factor, one over the micro-batches."""
        if not isinstance(tensors, Tensor):
            many = list(tensors)
            tensors = many[0] if len(many) == 1 else many
        member = self._all.gathered.batches.members[-1]
        scale = 1.0
        if isinstance(tensors, Tensor) and tensors.numel() == 1 and member.value is not None:
            scaled, plain = float(tensors.detach()), float(member.value)
            scale = scaled / plain if plain and scaled / plain > 0 else 1.0
        count = stream.micro_batches
        return tensors, scale / count if count > 1 and abs(member.divisor - count) < 1e-6 * count else scale


def _device(stream: Stream) -> str:
    kind = stream.params[0].device.type if stream.params else "cpu"
    return "cpu" if kind == "meta" else kind  # there is no autocast for it
