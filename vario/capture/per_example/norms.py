"""What was heard of single examples and of the parts of a step, on the host, with one transfer for all."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from vario.capture.needs import Pending
from vario.capture.per_example.found import ExampleGradients
from vario.capture.per_example.parts import GradientParts

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vario.capture.predictions import Rows

    Array = NDArray[np.float64]

__all__ = ["ExampleGram", "ExampleNorms", "PartNorms", "example_gram", "example_norms", "part_norms"]


@dataclass(frozen=True, slots=True)
class ExampleNorms:
    """Of a batch of ``examples``, by parameter: squared norms of the shares of those that were looked at.

    ``batch`` are the squared norms of the batch's gradient, of the parameters that are not understood too.
    """

    examples: int
    squares: dict[str, Array]
    batch: dict[str, float]

    @property
    def looked_at(self) -> int:
        return len(next(iter(self.squares.values()), ()))


@dataclass(frozen=True, slots=True)
class ExampleGram:
    """Inner products (m, m) of the gradients of the examples that were looked at, and their labels (m,).

    ``seen``: the share of the squared norm of the batch's gradient that they are about.
    """

    products: Array
    seen: float
    labels: Array | None


@dataclass(frozen=True, slots=True)
class PartNorms:
    """Of ``parts`` parts of ``examples`` each: squared norms by parameter, in units of the whole's gradient.

    ``squares`` has one value for each part that was heard here; ``whole`` is that of the step's gradient,
    which is averaged over ``ranks`` processes; ``cut``: this process's share of it.
    """

    examples: int
    parts: int
    ranks: int
    squares: dict[str, Array]
    whole: dict[str, float]
    cut: bool = False


def example_norms(found: ExampleGradients) -> Pending | None:
    """Squared norms in units of the unscaled gradient; None where nothing is understood."""
    if not found.squares:
        return None
    names, everything = list(found.squares), list(found.batch_squares)

    def finish(host: list[Array]) -> ExampleNorms:
        host = [part / found.scale**2 for part in host]
        squares = dict(zip(names, host[: len(names)], strict=True))
        batch = {n: float(v[0]) for n, v in zip(everything, host[len(names) :], strict=True)}
        return ExampleNorms(found.examples, squares, batch)

    return Pending([*found.squares.values(), *_flat(found.batch_squares.values())], finish)


def example_gram(found: ExampleGradients, rows: Rows | None) -> Pending | None:
    """Summed over the parameters that are understood; None where none is, or nobody asked for products."""
    if not found.products:
        return None
    names = list(found.batch_squares)
    gram = _added(list(found.products.values()))
    labels = [] if rows is None or rows.labels.shape != (found.examples,) else [rows.labels]

    def finish(host: list[Array]) -> ExampleGram:
        batch = {name: float(value[0]) for name, value in zip(names, host[1:], strict=False)}
        seen = sum(batch[name] for name in found.products if name in batch)
        whole = sum(batch.values())
        return ExampleGram(
            host[0].reshape(gram.shape) * (found.examples / found.scale) ** 2,
            float(seen / whole) if whole > 0 else 1.0,
            host[-1][found.picked] if labels else None,
        )

    return Pending([gram, *_flat(found.batch_squares.values()), *labels], finish)


def part_norms(found: GradientParts) -> Pending | None:
    """Squared norms in units of the unscaled gradient of the step."""
    names = list(found.whole)
    if not names or not found.squares:
        return None
    parts = [tensor for part in found.squares for tensor in _flat(part[name] for name in names)]

    def finish(host: list[Array]) -> PartNorms:
        values = np.concatenate(host).reshape(len(found.squares) + 1, len(names)) / found.scale**2
        squares = dict(zip(names, (values[:-1] * found.factor**2).T, strict=True))
        whole = dict(zip(names, values[-1].tolist(), strict=True))
        return PartNorms(found.examples, found.parts, found.averaged, squares, whole, found.cut)

    return Pending([*parts, *_flat(found.whole.values())], finish)


def _flat(values: Iterable[Tensor]) -> list[Tensor]:
    return [value.reshape(1) for value in values]


def _added(values: list[Tensor]) -> Tensor:
    """Their sum, where the first of them lies: a model may lie on several devices."""
    total = values[0].clone()
    for value in values[1:]:
        total += value.to(total.device)
    return total
