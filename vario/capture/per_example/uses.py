"""The uses of one parameter: its shares are the sums of what each use gives, and only then squared."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import repeat
from typing import Any, Protocol

import torch
from torch import Tensor

from vario.capture.per_example.batch_axis import Examples, kind_of
from vario.capture.per_example.chains import Chain
from vario.capture.per_example.formulas import Formula, Linear, Lookup, Replay, Shares
from vario.capture.per_example.found import exact, rows_of, sum_of

__all__ = ["Joint", "Use", "joint"]

_MOST = 1 << 25  # entries of all shares of a parameter together, where they must be formed


@dataclass(eq=False)
class Use:
    """One operation that reads parameters at the end of a chain; no formula: a term that no example is in."""

    node: Any
    formula: Formula | None
    chain: Chain
    examples: Examples
    names: dict[Any, str] = field(default_factory=dict)  # of the leaves of the chain
    number: int = 0  # of the output of the chain's top that is read

    def hear(self, gradients: tuple[Tensor | None, ...], told: Mapping[str, Joint]) -> None:
        """The gradient has come, and nothing follows ours; what is made of it is given to each parameter."""
        gradient = gradients[0]
        if gradient is None:
            return
        if isinstance(self.formula, Replay):
            self.formula.others = gradients[1:]
        formed = []
        for name, one in told.items():
            if isinstance(one, _Formed):
                formed.append((name, one))
            else:
                one.hear(self, gradient)
        if not formed:
            return
        for place, share in enumerate(self._shares(gradient)):
            shares = self.chain.carry(share, self.number)
            by_name = {self.names[leaf]: share for leaf, share in shares.items() if leaf in self.names}
            for name, one in formed:
                if name in by_name:
                    one.add(place, by_name[name])

    def add_spread(self, gradient: Tensor, total: Tensor) -> None:
        """What the formula adds to the sum of squares, down a chain that keeps every entry it reads."""
        assert self.formula is not None
        if self.chain.turned is not None:
            self.formula.add_spread(gradient, total.T if self.chain.turned else total)
            return
        squares = torch.zeros(self.chain.top._input_metadata[self.number].shape, device=total.device)
        self.formula.add_spread(gradient, squares)
        for carried in self.chain.carry(squares, self.number).values():
            total.add_(carried)

    def carries_squares(self) -> bool:
        """Whether a sum of squares can go down a chain of this kind: halves would lose it."""
        known = (m for node in self.chain.order for m in node._input_metadata)
        return isinstance(self.formula, Shares) and all(m.dtype == torch.float32 for m in known)

    def _shares(self, gradient: Tensor) -> Iterable[Tensor]:
        if self.formula is None:
            return repeat(gradient / self.examples.count, self.examples.looked_at)
        return self.formula.each(gradient)


class Joint(Protocol):
    """All uses of one parameter."""

    products: Tensor | None

    def hear(self, use: Use, gradient: Tensor) -> None:
        """A gradient has come to a use."""

    def squares(self) -> Tensor:
        """Squared norms, once all have come; lets go of everything."""


def joint(uses: list[Use], size: int, *, products: bool, total: Tensor | None) -> Joint:
    """The cheapest way to add these uses of a parameter of ``size`` entries.

    ``total``: what the sum over examples of squared entries is added to, in the parameter's shape.
    """
    one = uses[0]
    if len(uses) == 1 and one.chain.keeps_norm and one.formula is not None:
        if total is None or one.chain.turned is not None or one.carries_squares():
            return _Alone(products, total)
    if total is None and _are_apart(uses):
        return _Apart(uses, products)
    formulas, direct = [use.formula for use in uses], all(use.chain.direct for use in uses)
    turns = {use.chain.turned for use in uses}
    known = len(turns) == 1 and None not in turns
    if all(isinstance(formula, Linear) for formula in formulas) and known:
        return _Joined(len(uses), products, total)
    if all(isinstance(formula, Shares) for formula in formulas) and direct:
        return _Summed(len(uses), products, total)
    kinds = sorted(type(formula).__name__ for formula in formulas)
    if kinds == ["Linear", "Lookup"] and not products and total is None and None not in turns:
        if all(use.chain.turned == isinstance(use.formula, Linear) for use in uses):
            return _Tied()
    if size * uses[0].examples.looked_at > _MOST:
        raise ValueError("the shares would have to be formed, and are too large for that")
    return _Formed(uses[0].examples.looked_at, products, total)


class _Alone:
    """One use: its formula says everything as soon as the gradient comes."""

    def __init__(self, products: bool, total: Tensor | None) -> None:
        self.products: Tensor | None = None
        self._wanted, self._total = products, total
        self._found: Tensor | None = None

    def hear(self, use: Use, gradient: Tensor) -> None:
        formula = use.formula
        if formula is None or self._found is not None:
            raise RuntimeError("backward came to this operation twice")
        if self._wanted:
            self.products = formula.products(gradient)
        if self._total is not None:
            use.add_spread(gradient, self._total)
        self._found = formula.squares(gradient) if self.products is None else self.products.diagonal()
        use.formula = None  # nothing of this operation needs to stay in memory

    def squares(self) -> Tensor:
        if self._found is None:
            raise RuntimeError("backward did not come to this operation")
        return self._found


class _Apart:
    """Uses of parts of it that have no entry in common: weights of experts that are kept in one parameter."""

    def __init__(self, uses: list[Use], products: bool) -> None:
        self.products: Tensor | None = None
        self._parts = {id(use): _Alone(products, None) for use in uses}

    def hear(self, use: Use, gradient: Tensor) -> None:
        self._parts[id(use)].hear(use, gradient)

    def squares(self) -> Tensor:
        parts, self._parts = list(self._parts.values()), {}
        squares = sum_of([part.squares().clone() for part in parts])
        products = [part.products for part in parts if part.products is not None]
        self.products = sum_of(products) if products else None
        return squares


def _are_apart(uses: list[Use]) -> bool:
    places = set()
    for use in uses:
        if use.formula is None or not use.chain.keeps_norm or len(use.chain.order) < 2:
            return False
        select = use.chain.order[-2]
        if kind_of(select) != "Select":
            return False
        places.add((select._saved_dim, select._saved_index))
    return len(places) == len(uses) and len({dim for dim, _ in places}) == 1


class _Later:
    """Gradients are kept until all have come."""

    def __init__(self, count: int, products: bool = False, total: Tensor | None = None) -> None:
        self.products: Tensor | None = None
        self._wanted, self._total, self._count = products, total, count
        self._kept: list[tuple[Use, Tensor]] = []

    def hear(self, use: Use, gradient: Tensor) -> None:
        self._kept.append((use, gradient))

    def _all(self) -> list[tuple[Use, Tensor]]:
        kept, self._kept = self._kept, []
        if len(kept) != self._count:
            raise RuntimeError(f"backward came to {len(kept)} of {self._count} operations that read it")
        return kept


class _Joined(_Later):
    """Products with the same matrix are one product over more rows."""

    def squares(self) -> Tensor:
        kept = self._all()
        into, out = [], []
        for use, gradient in kept:
            assert isinstance(use.formula, Linear)
            into.append(use.formula.a)
            out.append(use.formula.arriving.rows(gradient))
        whole, arriving = Linear.joined(torch.cat(into, dim=1), kept[0][0].examples), torch.cat(out, dim=1)
        with exact(arriving):
            if self._wanted:
                self.products = whole.products(arriving)
            if self._total is not None:
                whole.add_spread(arriving, self._total.T if kept[0][0].chain.turned else self._total)
            return whole.squares(arriving)


class _Summed(_Later):
    """Shares that are small are formed as they come."""

    def __init__(self, count: int, products: bool, total: Tensor | None) -> None:
        super().__init__(count, products, total)
        self._shares: Tensor | None = None
        self._heard = 0

    def hear(self, use: Use, gradient: Tensor) -> None:
        assert isinstance(use.formula, Shares)
        shares = use.formula.form(gradient)
        self._shares = shares if self._shares is None else self._shares + shares
        self._heard += 1

    def squares(self) -> Tensor:
        if self._shares is None or self._heard != self._count:
            raise RuntimeError(f"backward came to {self._heard} of {self._count} operations that read it")
        return _of_formed(self, self._shares, self._wanted, self._total)


class _Tied(_Later):
    """A table of which rows are looked up, and which is the matrix of the last product as well."""

    def __init__(self) -> None:
        super().__init__(2)

    def squares(self) -> Tensor:
        found: dict[type, tuple[Any, Tensor]] = {}
        for use, gradient in self._all():
            assert use.formula is not None
            found[type(use.formula)] = use.formula, gradient
        (table, at_table), (product, at_product) = found[Lookup], found[Linear]
        with exact(at_table):
            whole: Tensor = 2 * table.with_linear(at_table, product, at_product)
            whole += table.squares(at_table) + product.squares(at_product)
            return whole


class _Formed:
    """The shares themselves, because nothing less will do."""

    def __init__(self, examples: int, products: bool, total: Tensor | None) -> None:
        self.products: Tensor | None = None
        self._wanted, self._total = products, total
        self._shares: list[Tensor | None] = [None] * examples

    def hear(self, use: Use, gradient: Tensor) -> None:
        raise RuntimeError("shares are formed by their use")

    def add(self, place: int, share: Tensor) -> None:
        """A part of the share of one example."""
        before = self._shares[place]
        self._shares[place] = share.clone() if before is None else before.add_(share)

    def squares(self) -> Tensor:
        shares, self._shares = [share for share in self._shares if share is not None], []
        if not shares:
            raise RuntimeError("backward did not come to an operation that reads it")
        return _of_formed(self, torch.stack(shares), self._wanted, self._total)


def _of_formed(one: _Summed | _Formed, shares: Tensor, wanted: bool, total: Tensor | None) -> Tensor:
    rows = rows_of(shares)
    if wanted:
        with exact(shares):
            one.products = rows @ rows.T
    if total is not None:
        total.add_((shares.abs() if shares.is_complex() else shares).square().sum(dim=0))
    return rows.square().sum(dim=1)
