"""How gradients of single examples, and of the parts of a step, are listened to in a running loop.

Which steps is the observer's affair. What is listened to changes nothing that the script can see: an
operation that might call somebody's code a second time is not called (``masked.unsafe``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from vario.capture import shards
from vario.capture.graph import bottom_up
from vario.capture.needs import EXAMPLES
from vario.capture.per_example.found import ExampleGradients, on_host, square
from vario.capture.per_example.parts import GradientParts, PartListener
from vario.capture.per_example.wholes import Wholes, find, squares
from vario.capture.shards import world_size
from vario.capture.streams import Stream

if TYPE_CHECKING:
    from vario.capture.attach import Attachment
    from vario.capture.per_example.probe import Probe

__all__ = ["ExampleDoor"]

FEWEST = 8  # examples that are looked at, unless the batch has less
SHARE = 8  # one in so many is looked at
UNSIZED = "how many examples a batch has is not known: no loader and no inputs of the model were seen"
IN_VAIN = 3  # times that nothing was understood, after which it is not tried again


@dataclass(eq=False)
class _Ear:
    """What is known of one stream, and what listens to its step under way."""

    heard: int = 0
    vain: int = 0
    next_check: int = 0
    kinds: frozenset[str] = frozenset()  # of operations, when it was last checked
    refused: dict[str, str] = field(default_factory=dict)  # what a check left out
    told: Any = None
    # of the step under way
    open: bool = False
    probe: Probe | None = None
    listener: PartListener | None = None
    checks: bool = False
    new_kinds: frozenset[str] = frozenset()
    examples: ExampleGradients | None = None
    parts: list[dict[str, Tensor]] = field(default_factory=list)
    forms: list[Any] = field(default_factory=list)  # of the graph of each part, and its place in the data
    whole: dict[str, Tensor] = field(default_factory=dict)
    scale: float = 1.0
    carried: bool = False  # gradients from before it
    wholes: Wholes = field(default_factory=lambda: Wholes({}))
    size: int = 0


class ExampleDoor:
    """Listens around backwards for the streams that want it; `of` is what a step has to offer."""

    def __init__(self, attachment: Attachment) -> None:
        self._all = attachment
        self._ears: dict[Stream, _Ear] = {}
        self._off = False

    def before(self, tensors: Any) -> None:
        """A backward is about to run; the micro-batch is among those gathered."""
        if not self._off:
            self._guarded(self._before, tensors)

    def after(self) -> None:
        """The backward is over, well or not."""
        if not self._off:
            self._guarded(self._after)

    def of(self, stream: Stream) -> dict[str, Any]:
        """What the step that ends offers: `example_gradients`, `gradient_parts`."""
        return {} if self._off else self._guarded(self._of, stream) or {}

    # ---- inside

    def _guarded(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """What fails here is switched off alone: the rest of what is heard goes on."""
        try:
            return function(*arguments)
        except Exception as error:
            self._off = True
            for ear in self._ears.values():
                for listening in (ear.probe, ear.listener):
                    if listening is not None:
                        listening.let_go()
            self._ears = {}
            self._all.fail("gradients of examples", error)
            return None

    def _before(self, tensors: Any) -> None:
        members = self._all.gathered.batches.members
        for stream in self._all.streams:
            if not EXAMPLES & stream.wanted:
                continue
            ear = self._ears.setdefault(stream, _Ear())
            if len(members) == 1:
                self._forget_step(ear)
                ear.open, ear.carried = True, _carries(stream)
            if ear.open and isinstance(tensors, Tensor) and tensors.grad_fn is not None and not tensors.dim():
                self._listen(ear, stream, tensors, members)

    def _after(self) -> None:
        for stream, ear in self._ears.items():
            inside = 0.0
            if ear.listener is not None:
                listener, ear.listener = ear.listener, None
                ear.parts.append(ear.wholes.joined(listener.close()))
                inside += listener.seconds
            if ear.probe is not None:
                probe, ear.probe = ear.probe, None
                found = probe.close()
                inside += probe.seconds
                ear.wholes.join(found)
                ear.parts.append(found.batch_squares)
                self._judge(ear, stream, found)
            elif not inside and not (ear.open and ear.parts):
                continue
            if ear.open and (len(ear.parts) > 1 or world_size() > 1):
                with torch.no_grad():
                    ear.whole = _squares(stream)
            self._all.spent(inside)

    def _of(self, stream: Stream) -> dict[str, Any]:
        ear = self._ears.get(stream)
        if ear is None or not ear.open or not ear.parts:
            return {}
        members = self._all.gathered.batches.members
        offered: dict[str, Any] = {}
        alike = len(members) == len(ear.parts) and all(form == ear.forms[0] for form in ear.forms[1:])
        if len(members) > 1 and len(self._all.streams) > 1:
            alike = False  # as of a discriminator, whose two losses are no samples of one thing
        if ear.examples is not None and ear.examples.squares:
            if len(members) == 1 or alike:
                offered["example_gradients"] = ear.examples
            else:
                self._tell(ear, stream, "the step has several backwards that are not alike")
        parts = self._parts(ear, stream) if alike and not ear.carried else None
        if parts is not None:
            offered["gradient_parts"] = parts
        self._forget_step(ear)
        return offered

    def _forget_step(self, ear: _Ear) -> None:
        ear.open, ear.examples, ear.parts, ear.forms, ear.whole = False, None, [], [], {}

    def _listen(self, ear: _Ear, stream: Stream, loss: Tensor, members: list[Any]) -> None:
        order = bottom_up([loss.grad_fn])[::-1]
        try:
            ear.wholes = self._wholes(stream, order)
        except ValueError as reason:
            ear.open = False
            self._refuse(ear, stream, str(reason))
            return
        names, pieces = ear.wholes.names, ear.wholes.pieces
        if not pieces and not any(id(getattr(node, "variable", None)) in names for node in order):
            return  # the loss of another stream
        last = stream.last_batches.members if stream.last_batches is not None else ()
        several = len(members) > 1 or len(last) > 1 or world_size() > 1
        if several:
            ear.forms.append((tuple(type(node).__name__ for node in order), self._batch_number(len(members))))
        if len(members) == 1:
            ear.scale = _scale(loss, members[-1].value)
            ear.size, time_first = self._size(stream)
            if ear.size < 1:
                self._refuse(ear, stream, UNSIZED)
            if ear.size > 1 and ear.vain < IN_VAIN and "example_gradients" in stream.wanted:
                self._probe(ear, stream, loss, order, time_first)
        if ear.probe is None and several:
            ear.listener = PartListener(order, names, pieces)

    def _wholes(self, stream: Stream, order: list[Any]) -> Wholes:
        if not stream.sharded:
            return Wholes({id(p): name for p, name in zip(stream.params, stream.names, strict=True)})
        return find(order, stream.params, stream.names, None if stream.model is None else stream.model())

    def _probe(
        self,
        ear: _Ear,
        stream: Stream,
        loss: Tensor,
        order: list[Any],
        time_first: bool,
    ) -> None:
        from vario.capture.per_example.probe import Probe  # its formulas are of no use before

        kinds = frozenset(type(node).__name__ for node in order)
        ear.checks = ear.heard >= ear.next_check or not kinds <= ear.kinds
        draw = torch.Generator("cpu").manual_seed(
            stream.step
        )  # its own: the script's random numbers are its own
        count = min(ear.size, max(FEWEST, ear.size // SHARE))
        picked = sorted(torch.randperm(ear.size, generator=draw, device="cpu")[:count].tolist())
        ear.new_kinds = kinds
        ear.probe = Probe(
            loss,
            ear.wholes.names,
            examples=ear.size,
            picked=picked,
            check=picked[0] if ear.checks else None,
            time_first=time_first,
            order=order,
            pieces=ear.wholes.pieces,
            products="example_products" in stream.wanted,
        )

    def _judge(self, ear: _Ear, stream: Stream, found: ExampleGradients) -> None:
        ear.heard += 1
        if found.checked:
            ear.refused = {n: why for n, why in found.missed.items() if n in found.batch_squares}
            ear.next_check, ear.kinds = 4 * ear.heard, ear.kinds | ear.new_kinds
        for name, why in ear.refused.items():
            found.leave_out(name, why)
        if not found.squares and found.finite:
            ear.vain += 1
        found.scale = ear.scale
        ear.examples = found
        self._tell(ear, stream, "")

    def _refuse(self, ear: _Ear, stream: Stream, reason: str) -> None:
        if ear.told is None:
            ear.told = {"parameters": len(stream.params), "understood": 0, "missed": {}, "reason": reason}
            self._all.observer.event(
                stream, "example_gradients", "", {"examples": 0, "looked_at": 0, **ear.told}
            )

    def _tell(self, ear: _Ear, stream: Stream, reason: str) -> None:
        """Into the record, once: how much of the gradient is seen, and what is not."""
        found = ear.examples
        if found is None:
            return
        data = {
            "parameters": len(found.batch_squares),
            "understood": len(found.squares),
            "missed": dict(list(found.missed.items())[:100]),
            "reason": reason or ("it is not tried again" if ear.vain >= IN_VAIN else ""),
        }
        if data != ear.told:
            ear.told = data
            sampled = {"examples": ear.size, "looked_at": min(ear.size, max(FEWEST, ear.size // SHARE))}
            self._all.observer.event(stream, "example_gradients", "", {**sampled, **data})

    def _size(self, stream: Stream) -> tuple[int, bool]:
        """Examples of the batch in hand, and whether the model has them behind time."""
        given = stream.inputs or self._all.loaders.inputs
        shapes = [tensor.shape for tensor in given if tensor.dim()]
        loaded = [tensor.shape[0] for tensor in self._all.loaders.inputs if tensor.dim()]
        if not shapes:
            return 0, False
        shape, first = shapes[0], next(tensor for tensor in given if tensor.dim())
        turned = len(shape) > 1 and first.stride(0) < first.stride(1) and shape[0] > 1
        if len(shape) > 1 and (turned or (loaded and loaded[0] == shape[1] != shape[0])):
            return int(shape[1]), True
        return int(shape[0]), False

    def _batch_number(self, member: int) -> int:
        """The same for all micro-batches of a step that draw a batch of the loader each."""
        current = self._all.loaders.current
        return 0 if current is None else current.batches - member

    def _parts(self, ear: _Ear, stream: Stream) -> GradientParts | None:
        ranks = world_size()
        if ear.size < 1 or not ear.whole or len({frozenset(part) for part in ear.parts}) != 1:
            return None
        if ranks > 1 and len(ear.parts) == 1 and _unaveraged(stream, ear.parts[0], ear.whole):
            return None
        if ranks == 1 and len(ear.parts) < 2:
            return None
        names = set(ear.parts[0]) & set(ear.whole)
        squares = [{name: part[name] for name in stream.names if name in names} for part in ear.parts]
        return GradientParts(
            ear.size,
            len(ear.parts) * ranks,
            averaged=ranks,
            squares=squares,
            whole={name: ear.whole[name] for name in stream.names if name in names},
            scale=ear.scale,
            cut=stream.sharded,
        )


def _squares(stream: Stream) -> dict[str, Tensor]:
    """Squared norms of the gradients as they lie there; of what is cut, this process's share."""
    if stream.sharded:
        return squares(stream.params, stream.names, stream.cuts)
    pairs = [(name, p.grad) for name, p in zip(stream.names, stream.params, strict=True)]
    return {name: square(g.detach()) for name, g in pairs if g is not None and shards.is_whole(g)}


def _carries(stream: Stream) -> bool:
    """Whether gradients lie there from before the first backward of the step."""
    if not stream.sharded:
        return bool(stream.carried)
    grads = [shards.local(p.grad).detach() for p in stream.params if p.grad is not None]
    norms = torch._foreach_norm(grads) if grads else []
    return bool(norms) and bool(torch.stack([norm.float() for norm in norms]).any())


def _scale(loss: Tensor, undone: Tensor | None) -> float:
    """What a GradScaler multiplied the loss by: `undone` is the loss that it was given."""
    if undone is None or undone.data_ptr() == loss.data_ptr():
        return 1.0
    before, after = float(undone), float(loss.detach())
    return after / before if before and abs(after) < float("inf") else 1.0


def _unaveraged(stream: Stream, part: dict[str, Tensor], whole: dict[str, Tensor]) -> bool:
    """Whether nobody has averaged over processes: the gradient is still this one's, here or beside shards."""
    cuts = stream.cuts or [1] * len(stream.names)
    names = [n for n, cut in zip(stream.names, cuts, strict=True) if cut == 1 and n in part and n in whole]
    share = world_size() if stream.sharded else 1
    pairs = zip(on_host([part[n] for n in names]), on_host([whole[n] * share for n in names]), strict=True)
    same = [abs(a - b) <= 1e-5 * max(a, b) for a, b in pairs if max(a, b) > 0 or not stream.sharded]
    return any(same) if stream.sharded else all(same)
