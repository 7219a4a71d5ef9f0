"""The gradient that arrives at the output of an operation, example by example.

Several parameters are read by one operation, and what they need of it is made once: a bias and a weight
have the lengths of its rows and their inner products in common.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from vario.capture.per_example.batch_axis import Examples, Layout

__all__ = ["Arriving", "by_rows"]


class Arriving:
    """At one operation, whose output has the examples as ``layout`` tells. One gradient at a time."""

    def __init__(self, layout: Layout, examples: Examples) -> None:
        self.layout, self.examples = layout, examples
        self._gradient: Tensor | None = None
        self._made: dict[str, Tensor] = {}
        self._replayed: list[list[Tensor | None]] = []

    def rows(self, gradient: Tensor) -> Tensor:
        """(m, T, o): all rows of each example that is looked at."""
        made = self._of(gradient)
        if "rows" not in made:
            made["rows"] = by_rows(gradient, self.layout, self.examples, 1)
        return made["rows"]

    def lengths(self, gradient: Tensor) -> Tensor:
        """Norm of the one row that each example has (m,)."""
        made = self._of(gradient)
        if "lengths" not in made:
            made["lengths"] = torch.linalg.vector_norm(self.rows(gradient).flatten(1), dim=1)
        return made["lengths"]

    def products(self, gradient: Tensor) -> Tensor:
        """Inner products of the one row that each has (m, m)."""
        made = self._of(gradient)
        if "products" not in made:
            rows = self.rows(gradient).flatten(1)
            made["products"] = rows @ rows.T
        return made["products"]

    def squared(self, gradient: Tensor) -> Tensor:
        """Squared entries of the one row that each has (m, o)."""
        made = self._of(gradient)
        if "squared" not in made:
            made["squared"] = self.rows(gradient).flatten(1).square()
        return made["squared"]

    def replayed(
        self, gradient: Tensor, replay: Callable[[Tensor], list[list[Tensor | None]]]
    ) -> list[list[Tensor | None]]:
        """What `replay` makes of the gradient, for all that is read here."""
        self._of(gradient)
        self._replayed = self._replayed or replay(gradient)
        return self._replayed

    def _of(self, gradient: Tensor) -> dict[str, Tensor]:
        if self._gradient is not gradient:
            self._gradient, self._made, self._replayed = gradient, {}, []
        return self._made


def by_rows(value: Tensor, layout: Layout, examples: Examples, last: int) -> Tensor:
    """(m, rows, ...) with the last ``last`` dimensions kept."""
    value = value.detach()
    if layout.dim == 0 and layout.outer == 1:  # the examples lie outermost: no entry moves
        kept = value.shape[value.ndim - last :]
        return examples.pick(value.reshape(examples.count, -1, *kept)).float()
    return (
        examples.of(value, layout).float().reshape(examples.looked_at, -1, *value.shape[value.ndim - last :])
    )
