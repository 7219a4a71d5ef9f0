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
    "by_example",
    "dim_of",
    "is_packed",
    "kind_of",
    "passes",
]

Shape = tuple[int, ...]

BATCH_NORMS = ("NativeBatchNorm", "CudnnBatchNorm", "MiopenBatchNorm")


class Layout(NamedTuple):
    """Dimension ``dim`` has outer x examples x inner entries, with the examples in the middle."""

    dim: int
    outer: int
    inner: int


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
        """(examples looked at, outer, ..., inner, ...), detached."""
        return self.pick(by_example(value.detach(), layout, self.count))


def by_example(value: Tensor, layout: Layout, examples: int) -> Tensor:
    """The tensor with the examples as its first dimension: (examples, outer, ..., inner, ...)."""
    sizes = (layout.outer, examples, layout.inner)
    parts = value.reshape(*value.shape[: layout.dim], *sizes, *value.shape[layout.dim + 1 :])
    return parts.movedim(layout.dim + 1, 0)


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
