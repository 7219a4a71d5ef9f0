"""What one backward told of single examples, and the squared norm that it is told in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from vario.capture import modes

__all__ = [
    "ExampleGradients",
    "as_read",
    "exact",
    "on_host",
    "rows_of",
    "single",
    "square",
    "sum_of",
    "unseen",
]

_PIECE = 1 << 18  # entries over which single precision adds without loss


@dataclass(slots=True)
class ExampleGradients:
    """Of the shares of each parameter that is understood; the rest with the reason.

    ``squares``: squared norms (examples looked at,); ``batch_squares``: squared norm of the sum of the
    shares of all ``examples``, of this backward alone, of every parameter. On request ``products`` (inner
    products of shares, square) and ``spreads`` (sums over examples of squared entries, as the parameter,
    added to what was there; a parameter that is left out loses them).
    """

    examples: int
    squares: dict[str, Tensor] = field(default_factory=dict)
    batch_squares: dict[str, Tensor] = field(default_factory=dict)
    missed: dict[str, str] = field(default_factory=dict)
    checked: bool = False
    finite: bool = True  # False: the check said nothing, because squares were not finite
    products: dict[str, Tensor] = field(default_factory=dict)
    spreads: dict[str, Tensor] = field(default_factory=dict)
    picked: list[int] = field(default_factory=list)  # places in the batch of those looked at
    scale: float = 1.0  # what the loss had been multiplied by: squares are those of this times the gradient

    def leave_out(self, name: str, reason: str) -> None:
        """Nothing is said of this parameter."""
        self.missed.setdefault(name, reason)
        for found in (self.squares, self.products, self.spreads):
            found.pop(name, None)


_AS_IT_IS = nullcontext()


def exact(gradient: Tensor) -> AbstractContextManager[object]:
    """No graph, no mode of the script's that counts along, and autocast off: a backward called inside it
    would have our sums in half precision."""
    kind = gradient.device.type
    halved = kind != "meta" and torch.is_autocast_enabled(kind)
    seen = modes.looked_on()
    return _apart(kind, halved, seen) if halved or seen or torch.is_grad_enabled() else _AS_IT_IS


def unseen() -> AbstractContextManager[object]:
    """No graph, and no mode of the script's that counts along; in the precision that is set."""
    seen = modes.looked_on()
    return _apart("", False, seen) if seen or torch.is_grad_enabled() else _AS_IT_IS


@contextmanager
def _apart(kind: str, halved: bool, seen: bool) -> Iterator[None]:
    full = torch.autocast(kind, enabled=False) if halved else _AS_IT_IS
    with modes.aside() if seen else _AS_IT_IS, torch.no_grad(), full:
        yield


def on_host(values: Sequence[Tensor]) -> list[float]:
    """The numbers in tensors of one entry, with one transfer for each device."""
    found = [0.0] * len(values)
    for device in {value.device for value in values}:
        places = [place for place, value in enumerate(values) if value.device == device]
        numbers = torch.stack([values[place].detach().reshape(()).float() for place in places]).tolist()
        for place, number in zip(places, numbers, strict=True):
            found[place] = number
    return found


def square(gradient: Tensor) -> Tensor:
    """Squared norm; in pieces where single precision would not do over all of it."""
    if gradient.dtype is not torch.float32 or gradient.layout is not torch.strided:
        gradient = _plain(gradient)
    flat = gradient.reshape(-1)
    if flat.numel() <= _PIECE:
        return torch.dot(flat, flat)
    return sum_of([torch.dot(part, part).double() for part in flat.split(_PIECE)])


def _plain(gradient: Tensor) -> Tensor:
    """The same entries, dense and real, in no less than single precision."""
    if gradient.is_sparse:
        gradient = gradient.coalesce().values()
    if gradient.is_complex():
        gradient = torch.view_as_real(gradient.resolve_conj())
    return gradient.float() if gradient.dtype in (torch.float16, torch.bfloat16) else gradient


def as_read(value: Tensor, edge: tuple[Any, int]) -> Tensor:
    """As autograd hands it on: in the shape and kind of what the operation below gave out."""
    known = edge[0]._input_metadata[edge[1]]
    if value.shape != known.shape:
        value = value.sum_to_size(known.shape)
    if value.is_complex() and not known.dtype.is_complex:
        value = value.real
    return value.to(known.dtype)


def single(value: Tensor) -> Tensor:
    """In single precision."""
    return value.to(torch.complex64) if value.is_complex() else value.float()


def rows_of(shares: Tensor) -> Tensor:
    """One row of real numbers for each of them."""
    return (torch.view_as_real(shares) if shares.is_complex() else shares).reshape(len(shares), -1)


def sum_of(values: list[Tensor]) -> Tensor:
    """Added to the first of them."""
    total = values[0]
    for value in values[1:]:
        total += value
    return total
