"""The nouns that a measured step is made of, below both the step and the arithmetic on it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
from torch import Tensor

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["CURVATURE", "EXAMPLES", "KEEP", "Activation", "Derived", "Drawn", "LossCall", "Offer", "Pending"]

EXAMPLES = frozenset(  # raw needs of `per_example.door`
    {"example_gradients", "example_products", "gradient_parts"}
)
KEEP = "keep_weights"  # wanted at the step before: copy the weights, so that the step itself is known
CURVATURE = frozenset(  # raw needs of `curvature.door`, which is not loaded before one of them is wanted
    """curvature_ends curvature_slopes curvature_limit curvature_traces curvature_density curvature_halves
    tangent_kernel keep_weights""".split()
)


class Drawn(NamedTuple):
    """Which examples of its data set a loader has put into a batch, in order."""

    loader: str
    indices: Sequence[int]
    targets: Sequence[Tensor]  # tensors of the batch with one number to an example
    inputs: Sequence[Any] = ()  # where examples are kept: texts and tensors with one entry to an example


@dataclass(frozen=True, slots=True)
class LossCall:
    """One call of a torch loss function: what it was given and what it gave, all detached."""

    name: str
    output: Tensor
    target: Tensor | None
    value: Tensor
    reduction: str = "mean"
    weight: Tensor | None = None  # of the positive class, where the loss answers yes or no
    ignore_index: int = -100
    drawn: Drawn | None = None  # which examples it was about, as far as one can tell
    of_inputs: bool = False  # a gradient with respect to the inputs can be had of it, as an attack takes it


@dataclass(frozen=True, slots=True)
class Activation:
    """The output of one layer or nonlinearity, as saved by the autograd graph (detached)."""

    where: str
    kind: str
    value: Tensor
    channel_dim: int = 1


@dataclass(frozen=True, slots=True)
class Pending:
    """Numbers still on the device, and what to make of them once they are on the host.

    ``finish`` is given one flat float64 array for each tensor of ``parts``, in order.
    """

    parts: Sequence[Tensor]
    finish: Callable[[list[NDArray[np.float64]]], Any]


class Offer(Protocol):
    """What a derived need may ask of its step: ``offer[need]`` and ``need in offer``."""

    def __contains__(self, need: str) -> bool: ...
    def __getitem__(self, need: str) -> Any: ...


@dataclass(frozen=True, slots=True)
class Derived:
    """How a derived need is had: what it reads, and the function that starts it.

    ``start`` must not wait for the device; it returns a value, a ``Pending``, or None where this
    step cannot offer it.
    """

    needs: frozenset[str]
    start: Callable[[Offer], Any]
