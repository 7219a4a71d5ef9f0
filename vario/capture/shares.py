"""How an operation that reads a parameter shares its gradient out among the examples, kind by kind.

With a the input and g the gradient that arrives at the output, both by example: (examples, ...).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from vario.capture.batch_axis import Layout, by_example

__all__ = ["Use", "find_use"]

_GHOST = 1.25  # measured: below this many times i o / (i + o) rows, products of rows are cheaper


@dataclass
class Use:
    """One operation's use of one parameter. ``share(k)``: example k's part of the parameter's gradient."""

    formula: _Formula
    gradient: Tensor | None = None
    _done: Tensor | None = field(default=None, repr=False)

    def settle(self) -> Tensor:
        """Squared norms of all shares (examples,); lets go of everything else."""
        if self._done is None:
            if self.gradient is None:
                raise RuntimeError("backward did not come to this operation")
            self._done = self.formula.squares(self.gradient)
            self.gradient, self.formula = None, _SPENT
        return self._done

    def share(self, example: int) -> Tensor:
        if self.gradient is None:
            raise RuntimeError("backward did not come to this operation")
        return self.formula.share(self.gradient, example)


@dataclass(frozen=True)
class _Formula:
    squares: Callable[[Tensor], Tensor]
    share: Callable[[Tensor, int], Tensor]


_SPENT = _Formula(torch.clone, lambda gradient, example: gradient[example])


def find_use(node: Any, kind: str, edge: int, *, turned: bool, layout: Layout, examples: int) -> Use | None:
    """The use of the parameter at ``edge`` of ``node``; None where there is no formula for it."""
    kind = kind.rstrip("0123456789").removesuffix("Backward")
    shape = tuple(node._input_metadata[0].shape)
    formula: _Formula | None = None
    if kind in ("Addmm", "Mm"):
        matrix = 2 if kind == "Addmm" else 1
        if edge == matrix and layout.dim == 0 and len(shape) == 2:
            a = node._saved_mat1 if kind == "Addmm" else node._saved_self
            plain = node._saved_alpha == 1 if kind == "Addmm" else True
            formula = _linear(a, layout, examples, turned=turned) if plain else None
        elif kind == "Addmm" and edge == 0 and not turned and node._saved_beta == 1:
            formula = _added(node.next_functions[0][0], layout, examples)
    elif kind in ("Add", "Sub") and not turned and (edge == 0 or node._saved_alpha == 1):
        formula = _added(node.next_functions[edge][0], layout, examples)
    elif kind == "Mul" and not turned:
        other = node._saved_other if edge == 0 else node._saved_self
        formula = None if other is None else _scaled(node.next_functions[edge][0], other, layout, examples)
    elif kind == "Convolution" and not turned and layout == Layout(0, 1, 1):
        formula = _convolution(node) if edge == 1 else _summed(examples, layout, keep=1)
    elif kind == "NativeLayerNorm" and not turned and edge in (1, 2):
        formula = _layer_norm(node, layout, examples, with_input=edge == 1)
    elif kind == "Embedding" and not turned and not node._saved_scale_grad_by_freq:
        formula = _embedding(node, layout, examples)
    return None if formula is None else Use(formula)


def _rows(value: Tensor, layout: Layout, examples: int, last: int) -> Tensor:
    """(examples, rows, ...) with the last ``last`` dimensions kept."""
    parts = by_example(value.detach().float(), layout, examples)
    return parts.reshape(examples, -1, *value.shape[value.ndim - last :])


def _from_shares(shares: Callable[[Tensor], Tensor]) -> _Formula:
    """Where the shares of all examples are small enough to form: (examples, *parameter)."""
    return _Formula(lambda g: shares(g).flatten(1).square().sum(dim=1), lambda g, k: shares(g)[k])


def _linear(a: Tensor, layout: Layout, examples: int, *, turned: bool) -> _Formula:
    a = _rows(a, layout, examples, 1)  # (B, T, i)

    def squares(gradient: Tensor) -> Tensor:
        g = _rows(gradient, layout, examples, 1)  # (B, T, o)
        rows, into, out = a.shape[1], a.shape[2], g.shape[2]
        if rows == 1:
            return a.square().sum(dim=(1, 2)) * g.square().sum(dim=(1, 2))
        if rows * (into + out) < _GHOST * into * out:
            return ((a @ a.mT) * (g @ g.mT)).sum(dim=(1, 2))
        return (g.mT @ a).flatten(1).square().sum(dim=1)

    def share(gradient: Tensor, example: int) -> Tensor:
        g = _rows(gradient, layout, examples, 1)[example]
        product = g.T @ a[example]  # (o, i)
        return product if turned else product.T

    return _Formula(squares, share)


def _added(below: Any, layout: Layout, examples: int) -> _Formula | None:
    """A parameter that is broadcast over the examples and added."""
    return _reduced(tuple(below._input_metadata[0].shape), layout, examples, lambda g: g)


def _scaled(below: Any, other: Tensor, layout: Layout, examples: int) -> _Formula | None:
    """A parameter that is broadcast over the examples and multiplied with ``other``."""
    other = other.detach().float()
    return _reduced(tuple(below._input_metadata[0].shape), layout, examples, lambda g: g.float() * other)


def _reduced(
    shape: tuple[int, ...], layout: Layout, examples: int, product: Callable[[Tensor], Tensor]
) -> _Formula | None:
    def shares(gradient: Tensor) -> Tensor:
        value = product(gradient).float()
        dim = layout.dim - (value.ndim - len(shape))
        if dim >= 0 and shape[dim] != 1:
            raise ValueError("the parameter is as long as the batch")
        parts = by_example(value, layout, examples)  # (B, ..., outer, inner, ...) in place of dim
        parts = parts.flatten(layout.dim + 1, layout.dim + 2).sum(dim=layout.dim + 1, keepdim=True)
        padded = (1,) * (value.ndim - len(shape)) + shape
        over = [axis + 1 for axis, size in enumerate(padded) if size == 1]
        return parts.sum(dim=over, keepdim=True).reshape(examples, *shape)

    return _from_shares(shares)


def _summed(examples: int, layout: Layout, *, keep: int) -> _Formula:
    """A bias of a convolution: the sum over places, channel by channel."""
    del layout

    def shares(gradient: Tensor) -> Tensor:
        return gradient.float().reshape(examples, gradient.shape[keep], -1).sum(dim=2)

    return _from_shares(shares)


def _convolution(node: Any) -> _Formula:
    """Example by example through torch's own backward: right for every stride, group and dimension."""
    a, weight = node._saved_input.detach(), node._saved_weight.detach()
    settings = [node._saved_stride, node._saved_padding, node._saved_dilation, node._saved_transposed]
    settings += [node._saved_output_padding, node._saved_groups]

    def share(gradient: Tensor, example: int) -> Tensor:
        one = slice(example, example + 1)
        backward = torch.ops.aten.convolution_backward
        found = backward(gradient[one], a[one], weight, None, *settings, [False, True, False])[1]
        return torch.as_tensor(found).float()

    def squares(gradient: Tensor) -> Tensor:
        return torch.stack([share(gradient, k).square().sum() for k in range(a.shape[0])])

    return _Formula(squares, share)


def _layer_norm(node: Any, layout: Layout, examples: int, *, with_input: bool) -> _Formula:
    last = len(node._saved_normalized_shape)
    value = node._saved_input.detach().float()
    standard = (value - node._saved_result1) * node._saved_result2 if with_input else None

    def shares(gradient: Tensor) -> Tensor:
        g = gradient.float() if standard is None else gradient.float() * standard
        return _rows(g, layout, examples, last).sum(dim=1)

    return _from_shares(shares)


def _embedding(node: Any, layout: Layout, examples: int) -> _Formula:
    tokens = _rows_of_indices(node._saved_indices, layout, examples)  # (B, T)
    count = int(node._saved_weight_sym_argsize_0)
    padding = int(node._saved_padding_idx)
    live = tokens != padding if 0 <= padding < count else torch.ones_like(tokens, dtype=torch.bool)

    def squares(gradient: Tensor) -> Tensor:
        g = _rows(gradient, layout, examples, 1) * live[..., None]  # (B, T, d)
        if tokens.shape[1] <= 256:
            same = tokens[:, :, None] == tokens[:, None, :]
            return ((g @ g.mT) * same).sum(dim=(1, 2))
        return torch.stack([_gathered(g[k], tokens[k]).square().sum() for k in range(examples)])

    def share(gradient: Tensor, example: int) -> Tensor:
        g = _rows(gradient, layout, examples, 1)[example] * live[example][:, None]
        return torch.zeros(count, g.shape[1], device=g.device).index_add_(0, tokens[example], g)

    return _Formula(squares, share)


def _rows_of_indices(indices: Tensor, layout: Layout, examples: int) -> Tensor:
    return by_example(indices.detach(), layout, examples).reshape(examples, -1)


def _gathered(g: Tensor, tokens: Tensor) -> Tensor:
    """Sum of the gradients of each token that occurs."""
    kinds, place = torch.unique(tokens, return_inverse=True)
    return torch.zeros(len(kinds), g.shape[1], device=g.device).index_add_(0, place, g)
