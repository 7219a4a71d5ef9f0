"""What an operation gives to the gradient of its parameter, example by example, kind by kind.

With a the input and g the gradient that arrives at the output, the share of an example is linear in g.
Squares and products of shares are taken without forming them where that is cheaper.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from vario.capture.per_example.arriving import Arriving, by_rows
from vario.capture.per_example.batch_axis import Examples, Layout, only
from vario.capture.per_example.found import as_read, rows_of, single, square, sum_of

__all__ = ["Formed", "Formula", "Linear", "Lookup", "Replay", "RowSums", "Shares"]

# measured: below so many times i o / (i + o) rows, products of rows are cheaper than the shares
_GHOST, _GHOST_PRODUCTS = 1.25, 2.0
_BLOCK = 1 << 22  # entries that are formed at once: measured, twice as many are slower by half


class Formula(Protocol):
    """Of ``m`` examples that are looked at; each is given the gradient at the output of the operation."""

    def squares(self, gradient: Tensor) -> Tensor:
        """Squared norms of the shares (m,)."""

    def each(self, gradient: Tensor) -> Iterator[Tensor]:
        """The share of one after the other, in the shape of what the operation reads."""

    def products(self, gradient: Tensor) -> Tensor:
        """Inner products of the shares (m, m)."""

    def add_spread(self, gradient: Tensor, total: Tensor) -> None:
        """The squares of each entry of the shares, in their shape, are added to ``total``."""


class Formed:
    """What follows from the shares alone."""

    examples: Examples

    def share(self, gradient: Tensor, place: int) -> Tensor:
        """That of one of them."""
        raise NotImplementedError

    def each(self, gradient: Tensor) -> Iterator[Tensor]:
        return (self.share(gradient, place) for place in range(self.examples.looked_at))

    def squares(self, gradient: Tensor) -> Tensor:
        return torch.stack([share.square().sum() for share in self.each(gradient)])

    def products(self, gradient: Tensor) -> Tensor:
        rows = rows_of(torch.stack(list(self.each(gradient))))
        return rows @ rows.T

    def add_spread(self, gradient: Tensor, total: Tensor) -> None:
        for share in self.each(gradient):
            size = share.abs() if share.is_complex() else share
            total.addcmul_(size, size)


class Shares(Formed):
    """Where the shares of all examples are small enough to form: ``form(g)`` is (m, *parameter)."""

    def __init__(self, form: Callable[[Tensor], Tensor], examples: Examples) -> None:
        self.form, self.examples = form, examples
        self._formed: tuple[Tensor, Tensor] | None = None  # the gradient, and the shares for it

    def all(self, gradient: Tensor) -> Tensor:
        """The shares, formed once."""
        if self._formed is None or self._formed[0] is not gradient:
            self._formed = gradient, self.form(gradient)
        return self._formed[1]

    def squares(self, gradient: Tensor) -> Tensor:
        rows = rows_of(self.all(gradient))
        lengths: Tensor = torch.linalg.vecdot(rows, rows)
        return lengths

    def each(self, gradient: Tensor) -> Iterator[Tensor]:
        return iter(self.form(gradient))

    def products(self, gradient: Tensor) -> Tensor:
        rows = rows_of(self.all(gradient))
        return rows @ rows.T

    def add_spread(self, gradient: Tensor, total: Tensor) -> None:
        total.add_(self.all(gradient).square().sum(dim=0))


class RowSums(Shares):
    """The gradient itself, summed over the rows of each example: of a bias."""

    def __init__(self, arriving: Arriving) -> None:
        super().__init__(lambda g: arriving.rows(g).sum(dim=1), arriving.examples)
        self._arriving = arriving

    def squares(self, gradient: Tensor) -> Tensor:
        if self._single(gradient):
            return self._arriving.lengths(gradient).square()
        return super().squares(gradient)

    def products(self, gradient: Tensor) -> Tensor:
        return self._arriving.products(gradient) if self._single(gradient) else super().products(gradient)

    def add_spread(self, gradient: Tensor, total: Tensor) -> None:
        if self._single(gradient):
            total.add_(self._arriving.squared(gradient).sum(dim=0))
        else:
            super().add_spread(gradient, total)

    def _single(self, gradient: Tensor) -> bool:
        return self._arriving.rows(gradient).shape[1] == 1


class Linear(Formed):
    """out = a @ w: a is (m, T, i), g is (m, T, o), the share (i, o); several uses are joined along T."""

    def __init__(self, a: Tensor, arriving: Arriving) -> None:
        self.examples = arriving.examples
        self.a = by_rows(a, arriving.layout, arriving.examples, 1)
        self.arriving = arriving
        self._known: Tensor | None = None  # squares that came with the spread

    @classmethod
    def joined(cls, a: Tensor, examples: Examples) -> Linear:
        """For inputs (m, T, i) that are by example already; such are the gradients that it is given."""
        return cls(a, Arriving(Layout(0, 1, 1), Examples(examples.looked_at)))

    def squares(self, gradient: Tensor) -> Tensor:
        if self.a.shape[1] == 1:
            lengths: Tensor = torch.linalg.vector_norm(self.a.flatten(1), dim=1)
            return (lengths * self.arriving.lengths(gradient)).square_()
        if self._known is not None:
            return self._known
        return self.of_rows(self.a, self.arriving.rows(gradient))

    @staticmethod
    def of_rows(a: Tensor, g: Tensor) -> Tensor:
        """Squares for several rows each: inputs (m, T, i) and gradients (m, T, o)."""
        count, (into, out) = a.shape[1], (a.shape[2], g.shape[2])
        if count * (into + out) < _GHOST * into * out:
            inner = torch.bmm(a, a.mT).flatten(1), torch.bmm(g, g.mT).flatten(1)
            dots: Tensor = torch.linalg.vecdot(*inner)
            return dots
        per = max(1, _BLOCK // (into * out))
        parts = [
            torch.linalg.vector_norm(torch.bmm(h.mT, b).flatten(1), dim=1)
            for b, h in zip(a.split(per), g.split(per), strict=True)
        ]
        return (parts[0] if len(parts) == 1 else torch.cat(parts)).square()

    def share(self, gradient: Tensor, place: int) -> Tensor:
        return self.a[place].T @ self.arriving.rows(gradient)[place]

    def products(self, gradient: Tensor) -> Tensor:
        if self.a.shape[1] == 1:
            a = self.a.flatten(1)
            return (a @ a.T).mul_(self.arriving.products(gradient))
        g = self.arriving.rows(gradient)
        (many, count, into), out = self.a.shape, g.shape[2]
        if many * count * (into + out) < _GHOST_PRODUCTS * into * out:
            inner = [value.flatten(0, 1) @ value.flatten(0, 1).T for value in (self.a, g)]
            return inner[0].mul_(inner[1]).view(many, count, many, count).sum(dim=(1, 3))
        per = max(1, _BLOCK // (into * many))
        parts = ((piece.mT @ self.a).flatten(1) for piece in g.split(per, dim=2))
        return sum_of([part @ part.T for part in parts])

    def add_spread(self, gradient: Tensor, total: Tensor) -> None:
        if self.a.shape[1] == 1:
            total.T.addmm_(self.arriving.squared(gradient).T, self.a.flatten(1).square())
            return
        g = self.arriving.rows(gradient)
        room = torch.empty_like(total.T)  # one for all: fresh memory costs more than the products
        turned, squares = total.T, []
        for into, out in zip(self.a.unbind(), g.mT.unbind(), strict=True):
            torch.mm(out, into, out=room)
            turned.addcmul_(room, room)
            squares.append(square(room))
        self._known = torch.stack(squares).to(room.dtype)


class Lookup(Formed):
    """Rows of a table: tokens (m, T), g (m, T, d), the share (rows of the table, d)."""

    def __init__(self, tokens: Tensor, arriving: Arriving, *, size: int, padding: int) -> None:
        self.examples, self.size, self._all = arriving.examples, size, arriving
        self.tokens = self.examples.of(tokens, arriving.layout).reshape(self.examples.looked_at, -1)
        self.live = self.tokens != padding if 0 <= padding < size else None

    def arriving(self, gradient: Tensor) -> Tensor:
        g = self._all.rows(gradient)
        return g if self.live is None else g * self.live[..., None]

    def squares(self, gradient: Tensor) -> Tensor:
        g = self.arriving(gradient)
        if self.tokens.shape[1] <= 256:
            same = self.tokens[:, :, None] == self.tokens[:, None, :]
            return ((g @ g.mT) * same).sum(dim=(1, 2))
        return torch.stack([_gathered(*pair).square().sum() for pair in zip(g, self.tokens, strict=True)])

    def share(self, gradient: Tensor, place: int) -> Tensor:
        g = self.arriving(gradient)[place]
        table = torch.zeros(self.size, g.shape[1], dtype=g.dtype, device=g.device)
        return table.index_add_(0, self.tokens[place], g)

    def products(self, gradient: Tensor) -> Tensor:
        g = self.arriving(gradient)
        used, place = torch.unique(self.tokens, return_inverse=True)
        found = []
        for piece in g.split(max(1, _BLOCK // (len(used) * len(g))), dim=2):
            table = torch.zeros(len(g), len(used), piece.shape[2], dtype=g.dtype, device=g.device)
            for row, where, value in zip(table, place, piece, strict=True):
                row.index_add_(0, where, value)
            found.append(table.flatten(1) @ table.flatten(1).T)
        return sum_of(found)

    def with_linear(self, gradient: Tensor, other: Linear, arriving: Tensor) -> Tensor:
        """Inner product of each share with that of a product whose weight is the same table, turned."""
        mine, g = self.arriving(gradient), other.arriving.rows(arriving)  # (m, T, d), (m, S, size)
        found = []
        for k, tokens in enumerate(self.tokens):
            found.append(((mine[k] @ other.a[k].T) * g[k].index_select(1, tokens).T).sum())
        return torch.stack(found)


class Replay(Formed):
    """An operation without a formula: its own backward is run on the rows of one example at a time."""

    def __init__(self, node: Any, edge: int, arriving: Arriving) -> None:
        self.node, self.edge, self.layout, self.examples = node, edge, arriving.layout, arriving.examples
        self.others: tuple[Tensor | None, ...] = ()
        self._arriving = arriving

    def squares(self, gradient: Tensor) -> Tensor:
        """One backward gives those of all parameters of the operation: an LSTM has four."""
        all_of_them = self._arriving.replayed(gradient, self._squares)
        return torch.stack([_given(squares, self.edge) for squares in all_of_them])

    def share(self, gradient: Tensor, place: int) -> Tensor:
        found = _given(self._backward(gradient, place), self.edge)
        dense: Tensor = found.to_dense() if found.is_sparse else found
        return single(dense)

    def _squares(self, gradient: Tensor) -> list[list[Tensor | None]]:
        """Squared norms, by example and by what the backward gives."""
        each = (self._backward(gradient, place) for place in range(self.examples.looked_at))
        return [[None if part is None else square(part) for part in parts] for parts in each]

    def _backward(self, gradient: Tensor, place: int) -> tuple[Tensor | None, ...]:
        if any(other is not None for other in self.others):
            raise ValueError("another of its outputs is used as well")
        found = self.node(only(self.examples.numbers()[place], gradient, self.layout), *self.others)
        parts = zip(self.node.next_functions, found if isinstance(found, tuple) else (found,), strict=True)
        return tuple(None if part is None or edge[0] is None else as_read(part, edge) for edge, part in parts)


def _given(parts: Sequence[Tensor | None], edge: int) -> Tensor:
    part = parts[edge]
    if part is None:
        raise ValueError("its backward gives nothing for this parameter")
    return part


def _gathered(g: Tensor, tokens: Tensor) -> Tensor:
    """Sum of the gradients of each token that occurs."""
    kinds, place = torch.unique(tokens, return_inverse=True)
    table = torch.zeros(len(kinds), g.shape[1], dtype=g.dtype, device=g.device)
    return table.index_add_(0, place, g)
