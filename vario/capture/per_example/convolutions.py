"""What a convolution gives to the gradient of its weight, example by example.

The share of an example is a product: of the patches of the input that each entry of the kernel sees, and of
the gradient at the places that they lead to. A transposed convolution is the same with the two exchanged.
Patches are copied for some examples at a time, into one room that stays in the processor's cache: they would
be several times the input, and fetching them from memory would cost as much as the product.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import product
from typing import Any, NamedTuple

import torch
from torch import Tensor

from vario.capture.per_example.batch_axis import Examples
from vario.capture.per_example.formulas import Formed
from vario.capture.per_example.found import sum_of

__all__ = ["Convolution"]

_ROOM = {"cpu": 1 << 18}  # entries of patches at a time: measured, twice and half as many are slower
_ROOM_ELSEWHERE = 1 << 25  # where starting an operation costs more than fetching
_FEW = 32  # entries of the kernel for one output: for as few, one product over all of them is cheaper
_TABLE = 1 << 24  # entries of the shares of all examples at a time, for their inner products


class _Piece(NamedTuple):
    """Shares (n * groups, kernel * into, out) of the examples from ``start`` on; of one row of the kernel."""

    start: int
    row: int
    shares: Tensor


class Convolution(Formed):
    """Of any dimension, stride, dilation and grouping; (m, ...) of examples in the first dimension."""

    def __init__(self, node: Any, examples: Examples) -> None:
        self.examples = examples
        self.a, self.weight = examples.pick(node._saved_input.detach()), node._saved_weight.detach()
        self.groups, self.transposed = node._saved_groups, node._saved_transposed
        kept = (node._saved_stride, node._saved_padding, node._saved_dilation, node._saved_output_padding)
        each = [list(given) * (self.weight.dim() - 2 if len(given) == 1 else 1) for given in kept]
        self.stride, self.padding, self.dilation, self.more = each  # one number may stand for all
        self._known: Tensor | None = None  # squares that came with the spread
        self._each = math.prod(self.weight.shape[1:])  # for one output; the weight may be away still
        self._rows = self.stride[0] == 1 and self._each > _FEW

    def share(self, gradient: Tensor, place: int) -> Tensor:
        g, a = self.examples.pick(gradient)[place : place + 1], self.a[place : place + 1]
        settings = [self.stride, self.padding, self.dilation, self.transposed, self.more, self.groups]
        backward = torch.ops.aten.convolution_backward
        found: Tensor = backward(g, a, self.weight, None, *settings, [False, True, False])[1]
        return found.float()

    def squares(self, gradient: Tensor) -> Tensor:
        if self._known is not None:
            return self._known
        found = self._empty(len(self.a)).zero_()
        for start, _, shares in self._pieces(gradient):
            flat = shares.view(-1, 1, shares[0].numel() * self.groups)
            found[start : start + len(flat)] += torch.bmm(flat, flat.mT).flatten()
        return found

    def add_spread(self, gradient: Tensor, total: Tensor) -> None:
        self._known = self._empty(len(self.a)).zero_()
        sums: dict[int, Tensor] = {}
        for start, row, shares in self._pieces(gradient):
            squares = shares.square_().view(-1, self.groups, *shares.shape[1:])
            self._known[start : start + len(squares)] += squares.flatten(1).sum(dim=1)
            added = squares.sum(dim=0)
            sums[row] = sums[row].add_(added) if row in sums else added
        whole = torch.stack(list(sums.values()), dim=1)  # (groups, rows, rest * into, out)
        out, into = self.weight.shape[0] // self.groups, self.weight.shape[1]
        whole = whole.view(self.groups, -1, into, out).permute(0, 3, 2, 1)
        total.add_(whole.reshape(total.shape))

    def products(self, gradient: Tensor) -> Tensor:
        out, many = self.weight.shape[0] // self.groups, len(self.a)
        most = max(1, _TABLE // (many * self._each * self.groups))
        found = []
        for first in range(0, out, most):
            some = slice(first, min(first + most, out))
            rows: dict[int, Tensor] = {}
            for start, row, shares in self._pieces(gradient, some):
                flat = shares.view(-1, shares[0].numel() * self.groups)
                if row not in rows:
                    rows[row] = self._empty(many, flat.shape[1])
                rows[row][start : start + len(flat)] = flat
            found += [table @ table.T for table in rows.values()]
        return sum_of(found)

    def _empty(self, *shape: int) -> Tensor:
        return torch.empty(shape, dtype=torch.float32, device=self.a.device)

    def _pieces(self, gradient: Tensor, some: slice = slice(None)) -> Iterator[_Piece]:
        """The shares; of ``some`` outputs of each group only. What is given is overwritten by the next."""
        g = self.examples.pick(gradient)
        seen, leads = (g, self.a) if self.transposed else (self.a, g)
        kernel, places = self.weight.shape[2:], leads.shape[2:]
        into, groups = self.weight.shape[1], self.groups
        # rows of the kernel are moved views of the same patches, where its first stride is 1
        rows, entries = (kernel[0], (1, *kernel[1:])) if self._rows else (1, tuple(kernel))
        high = places[0] + (rows - 1) * self.dilation[0]
        each = (math.prod(entries), into, high, *places[1:])
        most = _ROOM.get(self.a.device.type, _ROOM_ELSEWHERE)
        most = min(len(seen), max(1, most // (groups * math.prod(each))))
        room = self._empty(most, groups, *each).zero_()  # the borders stay zero
        found: Tensor | None = None
        for start in range(0, len(seen), most):
            block = slice(start, start + most)
            patches = room[: len(seen[block])]
            self._fill(patches, seen[block].unflatten(1, (groups, into)), entries)
            arriving = leads[block].unflatten(1, (groups, -1))[:, :, some].float()
            arriving = arriving.flatten(0, 1).flatten(2).mT  # (n * groups, places, out)
            for row in range(rows):
                at = row * self.dilation[0]
                window = patches.flatten(0, 1).flatten(1, 2)[:, :, at : at + places[0]].flatten(2)
                if found is None:
                    found = self._empty(most * groups, window.shape[1], arriving.shape[2])
                yield _Piece(start, row, torch.bmm(window, arriving, out=found[: len(window)]))

    def _fill(self, patches: Tensor, seen: Tensor, entries: tuple[int, ...]) -> None:
        """Copy what each entry of the kernel (or of its rows) sees into (n, groups, entry, into, places)."""
        extents, sizes = patches.shape[4:], seen.shape[3:]
        for number, entry in enumerate(product(*map(range, entries))):
            to: list[Any] = [...]
            of: list[Any] = [...]
            for axis, (extent, size, stride) in enumerate(zip(extents, sizes, self.stride, strict=True)):
                offset = entry[axis] * self.dilation[axis] - self.padding[axis]  # of the first place
                first = max(0, -(offset // stride))
                last = max(first, min(extent, (size - 1 - offset) // stride + 1))
                begin = first * stride + offset
                to.append(slice(first, last))
                of.append(slice(begin, begin + (last - first) * stride, stride))
            patches[:, :, number][tuple(to)].copy_(seen[tuple(of)])
