"""Where the examples of a batch lie in a tensor, and what nodes of an autograd graph tell of themselves."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

__all__ = [
    "BATCH_NORMS",
    "Examples",
    "Layout",
    "Shape",
    "agreed",
    "by_example",
    "dim_of",
    "is_packed",
    "kind_of",
    "only",
    "owned",
    "passes",
]

Shape = tuple[int, ...]

BATCH_NORMS = ("NativeBatchNorm", "CudnnBatchNorm", "MiopenBatchNorm")


class Layout(NamedTuple):
    """Dimension ``dim`` has outer x examples x inner entries, with the examples in the middle.

    Or, where they are of no fixed number to an example, ``rows`` has the example of each (-1: of none that
    is known, and nothing comes to it), outer and inner are 0, and it is ``ragged``.
    """

    dim: int
    outer: int
    inner: int
    rows: tuple[int, ...] = ()

    def length(self, examples: int) -> int:
        """How many entries the dimension has."""
        return len(self.rows) if self.ragged else self.outer * examples * self.inner

    @property
    def ragged(self) -> bool:
        return not self.inner

    def owners(self, examples: int) -> Tensor:
        """The example of each entry."""
        if self.ragged:
            return torch.tensor(self.rows, dtype=torch.long, device="cpu")
        places = torch.arange(self.length(examples), device="cpu")
        whose: Tensor = torch.remainder(places.div(self.inner, rounding_mode="floor"), examples)
        return whose


def owned(dim: int, owners: Tensor, examples: int) -> Layout:
    """The layout of entries of these examples: the plain one where it is one."""
    rows = len(owners)
    if rows and rows % examples == 0:
        each = rows // examples
        for plain in (Layout(dim, 1, each), Layout(dim, each, 1)):
            if torch.equal(plain.owners(examples), owners):
                return plain
    return Layout(dim, 0, 0, tuple(owners.tolist()))


def agreed(one: Layout | None, other: Layout | None, examples: int) -> Layout | None:
    """What two readers of a tensor tell of it together; None where they do not agree."""
    if one == other or one is None or other is None or one.dim != other.dim:
        return one if one == other else None
    if not one.ragged and not other.ragged:
        return None
    a, b = one.owners(examples), other.owners(examples)
    if len(a) != len(b) or bool(((a != b) & (a >= 0) & (b >= 0)).any()):
        return None
    return owned(one.dim, torch.maximum(a, b), examples)


@dataclass(frozen=True, slots=True)
class Examples:
    """``count`` examples of a batch, of which those at ``places`` are looked at (None: all)."""

    count: int
    places: tuple[int, ...] | None = None
    _moved: dict[torch.device, Tensor] = field(default_factory=dict, repr=False, compare=False)

    @property
    def looked_at(self) -> int:
        return self.count if self.places is None else len(self.places)

    def numbers(self) -> list[int]:
        """Places in the batch of those that are looked at."""
        return list(range(self.count) if self.places is None else self.places)

    def pick(self, value: Tensor) -> Tensor:
        """Those that are looked at, of a tensor that has the examples as its first dimension."""
        if self.places is None:
            return value
        index = self._moved.get(value.device)
        if index is None:  # once for each device
            index = self._moved[value.device] = torch.tensor(self.places, device=value.device)
        return value.index_select(0, index)

    def of(self, value: Tensor, layout: Layout) -> Tensor:
        """(examples looked at, ..., outer, inner, ...), detached; of rows of no fixed number, as many as the
        most have, and zeros."""
        if layout.ragged:
            return self._ragged(value.detach(), layout)
        return self.pick(by_example(value.detach(), layout, self.count))

    def _ragged(self, value: Tensor, layout: Layout) -> Tensor:
        owners, numbers = layout.owners(self.count), self.numbers()
        each = [(owners == number).nonzero().flatten() for number in numbers]
        most, size = max(1, *map(len, each)), value.shape[layout.dim]
        places = torch.full((len(numbers), most), size, device="cpu")
        for row, mine in zip(places, each, strict=True):
            row[: len(mine)] = mine
        nothing = value.new_zeros(()).expand(*value.shape[: layout.dim], 1, *value.shape[layout.dim + 1 :])
        padded = torch.cat([value, nothing], dim=layout.dim)
        found = padded.index_select(layout.dim, places.flatten().to(value.device))
        apart: Tensor = found.unflatten(layout.dim, (len(numbers), 1, most)).movedim(layout.dim, 0)
        return apart


def by_example(value: Tensor, layout: Layout, examples: int) -> Tensor:
    """The tensor with the examples as its first dimension: (examples, outer, ..., inner, ...)."""
    sizes = (layout.outer, examples, layout.inner)
    parts = value.reshape(*value.shape[: layout.dim], *sizes, *value.shape[layout.dim + 1 :])
    return parts.movedim(layout.dim + 1, 0)


def only(example: int, gradient: Tensor, layout: Layout) -> Tensor:
    """Zero but for the entries of one example."""
    alone = torch.zeros_like(gradient, memory_format=torch.contiguous_format)
    dim, shape = layout.dim, gradient.shape
    if layout.ragged:
        places = [place for place, owner in enumerate(layout.rows) if owner == example]
        mine = torch.tensor(places, dtype=torch.long, device="cpu").to(gradient.device)
        return alone.index_copy_(dim, mine, gradient.index_select(dim, mine))
    sizes = (*shape[:dim], layout.outer, -1, layout.inner, *shape[dim + 1 :])
    alone.view(sizes).select(dim + 1, example).copy_(gradient.reshape(sizes).select(dim + 1, example))
    return alone


def dim_of(number: int, count: int) -> int:
    """Autograd keeps negative dimensions as unsigned numbers."""
    signed = number - (1 << 64) if number >= 1 << 63 else number
    return signed + count if signed < 0 else signed


def kind_of(node: Any) -> str:
    """The operation that a node is the backward of."""
    return _kind_of(node.__class__)


@functools.cache
def _kind_of(kind: type) -> str:
    return kind.__name__.rstrip("0123456789").removesuffix("Backward")


def passes(node: Any) -> bool:
    """Whether it hands on what it is given, and is there for the hooks on it alone."""
    if kind_of(node) not in _PASSING:
        return False
    return str(getattr(type(node), "_forward_cls", type(node)).__module__).startswith("torch.")


_PASSING = frozenset(("BackwardHookFunction", "RegisterPostBackwardFunction", "_DDPSink"))


def is_packed(node: Any) -> bool:
    """Whether it keeps tensors that a hook packed away, as checkpointing does: reading them runs code.

    Older releases of torch do not tell; then it is taken to be so.
    """
    for name in _kept(node.__class__):
        raw = getattr(node, name, None)
        several = raw if isinstance(raw, (tuple, list)) else (raw,)
        if any(one is not None and getattr(one, "unpack_hook", _UNKNOWN) is not None for one in several):
            return True
    return False


_UNKNOWN = object()


@functools.cache
def _kept(kind: type) -> tuple[str, ...]:
    return tuple(name for name in dir(kind) if name.startswith("_raw_saved_"))
