"""Which formula an operation has for the parameter that it reads, and how several uses of one are added."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from vario.capture.per_example.arriving import Arriving, by_rows
from vario.capture.per_example.batch_axis import BATCH_NORMS, Examples, Layout, by_example, kind_of
from vario.capture.per_example.convolutions import Convolution
from vario.capture.per_example.formulas import (
    Formula,
    Linear,
    Lookup,
    Replay,
    RowSums,
    Shares,
)

__all__ = ["find_formula"]

_NOT_TWICE = ("CudnnRnn", "MiopenRnn")  # their backward uses up what they keep


def find_formula(node: Any, edge: int, at: Arriving) -> Formula | None:
    """For what is read at ``edge`` of ``node``, ``at`` its output; None where its shares cannot be had."""
    kind = kind_of(node)
    rule = None if node._input_metadata[0].dtype.is_complex else _RULES.get(kind)
    found = None if rule is None else rule(node, edge, at)
    if found is None and kind not in _NOT_TWICE and not isinstance(node, torch.autograd.function.FunctionCtx):
        return Replay(node, edge, at)
    return found


def _product(node: Any, edge: int, at: Arriving) -> Formula | None:
    """(..., i) @ (i, o) with rows of examples, and a bias where the operation has one."""
    kind = kind_of(node)
    if kind == "Addmm":
        if edge == 0:
            return _added(node, edge, at) if node._saved_beta == 1 else None
        plain = edge == 2 and node._saved_alpha == 1 and at.layout.dim == 0
        return Linear(node._saved_mat1, at) if plain else None
    if kind == "Bmm":  # einsum makes of a plain product one with a single matrix
        plain = edge == 1 and node._input_metadata[0].shape[0] == 1 and at.layout.dim == 1
        return Linear(node._saved_self, at) if plain else None
    return Linear(node._saved_self, at) if edge == 1 and at.layout.dim == 0 else None


def _added(node: Any, edge: int, at: Arriving) -> Formula | None:
    """Broadcast over the examples and added."""
    if kind_of(node) in ("Add", "Sub"):
        if edge == 1 and node._saved_alpha != 1:
            return None
    below, number = node.next_functions[edge]
    out, shape = node._input_metadata[0].shape, below._input_metadata[number].shape
    if len(out) > 1 and shape == out[-1:] and at.layout.dim < len(out) - 1:
        return RowSums(at)
    return _reduced(node, edge, at, lambda g: g)


def _scaled(node: Any, edge: int, at: Arriving) -> Formula | None:
    """Broadcast over the examples and multiplied with another."""
    other = node._saved_other if edge == 0 else node._saved_self
    if other is None:
        return None
    other = other.detach()  # not looked into before the backward: it may be a weight that is not there yet
    return _reduced(node, edge, at, lambda g: g.float() * other.float())


def _prelu(node: Any, edge: int, at: Arriving) -> Formula | None:
    below = node._saved_self.detach().float().clamp(max=0)
    return _reduced(node, edge, at, lambda g: g.float() * below) if edge == 1 else None


def _reduced(node: Any, edge: int, at: Arriving, product: Callable[[Tensor], Tensor]) -> Formula | None:
    below, number = node.next_functions[edge]
    layout, examples = at.layout, at.examples
    shape = tuple(below._input_metadata[number].shape)

    def form(gradient: Tensor) -> Tensor:
        value = product(gradient).float()
        dim = layout.dim - (value.ndim - len(shape))
        if dim >= 0 and shape[dim] != 1:
            raise ValueError("the parameter is as long as the batch")
        parts = examples.of(value, layout)  # (m, ..., outer, inner, ...) in place of dim
        parts = parts.flatten(layout.dim + 1, layout.dim + 2)
        padded = (1,) * (value.ndim - len(shape)) + shape
        over = [axis + 1 for axis, size in enumerate(padded) if size == 1]
        parts = parts.sum(dim=over, keepdim=True) if any(parts.shape[axis] > 1 for axis in over) else parts
        return parts.reshape(examples.looked_at, *shape)

    return Shares(form, examples)


def _convolution(node: Any, edge: int, at: Arriving) -> Formula | None:
    if at.layout != Layout(0, 1, 1):
        return None
    if edge == 1:
        return Convolution(node, at.examples)
    return _by_channel(at.examples, lambda g: g)


def _by_channel(examples: Examples, product: Callable[[Tensor], Tensor]) -> Formula:
    """Sums over places, channel by channel, of tensors (examples, channels, ...)."""

    def form(gradient: Tensor) -> Tensor:
        value = examples.pick(product(gradient.float()))
        return value.reshape(len(value), value.shape[1], -1).sum(dim=2)

    return Shares(form, examples)


def _layer_norm(node: Any, edge: int, at: Arriving) -> Formula | None:
    last = len(node._saved_normalized_shape)
    if edge == 2:
        return Shares(lambda g: _rows(g, at, last).sum(dim=1), at.examples)
    value, mean, scale = node._saved_input, node._saved_result1, node._saved_result2

    def form(gradient: Tensor) -> Tensor:
        centred = _rows(value, at, last) - _rows(mean, at, last)
        return centred.mul_(_rows(scale, at, last)).mul_(_rows(gradient, at, last)).sum(dim=1)

    return Shares(form, at.examples) if edge == 1 else None


def _rms_norm(node: Any, edge: int, at: Arriving) -> Formula | None:
    last = len(node._saved_normalized_shape)
    value, scale = node._saved_input, node._saved_result1

    def form(gradient: Tensor) -> Tensor:
        scaled = _rows(value, at, last) * _rows(scale, at, last)
        return scaled.mul_(_rows(gradient, at, last)).sum(dim=1)

    return Shares(form, at.examples) if edge == 1 else None


def _rows(value: Tensor, at: Arriving, last: int) -> Tensor:
    """The examples that are looked at, before anything is done with the others."""
    return by_rows(value, at.layout, at.examples, last)


def _group_norm(node: Any, edge: int, at: Arriving) -> Formula | None:
    if at.layout != Layout(0, 1, 1) or edge not in (1, 2):
        return None
    if edge == 2:
        return _by_channel(at.examples, lambda g: g)
    value, groups = node._saved_input.detach().float(), node._saved_group
    mean, scale = (
        part.detach().float().view(-1, groups, 1) for part in (node._saved_result1, node._saved_result2)
    )
    grouped = value.reshape(len(value), groups, -1)
    return _by_channel(at.examples, lambda g: g * ((grouped - mean) * scale).view(value.shape))


def _batch_norm(node: Any, edge: int, at: Arriving) -> Formula | None:
    """What is normalised with constants; with the batch's own statistics, only the scale and shift above."""
    if at.layout != Layout(0, 1, 1) or edge not in (1, 2):
        return None
    if edge == 2:
        return _by_channel(at.examples, lambda g: g)
    value = node._saved_input.detach().float()
    wide = (1, -1, *[1] * (value.dim() - 2))
    if node._saved_training:
        mean, scale = node._saved_result1, node._saved_result2
    else:
        mean, scale = node._saved_running_mean, (node._saved_running_var + node._saved_eps).rsqrt()
    mean, scale = mean.detach().float().view(wide), scale.detach().float().view(wide)
    return _by_channel(at.examples, lambda g: g * (value - mean) * scale)


def _embedding(node: Any, edge: int, at: Arriving) -> Formula | None:
    del edge
    if node._saved_scale_grad_by_freq:
        return None
    size, padding = int(node._saved_weight_sym_argsize_0), int(node._saved_padding_idx)
    tokens = node._saved_indices
    by_example(tokens, at.layout, at.examples.count)  # raises where the batch is no axis of the tokens
    return Lookup(tokens, at, size=size, padding=padding)


_RULES: dict[str, Callable[[Any, int, Arriving], Formula | None]] = {
    **dict.fromkeys(("Addmm", "Mm", "Bmm"), _product),
    **dict.fromkeys(("Add", "Sub", "Expand"), _added),
    "Mul": _scaled,
    "PreluKernel": _prelu,
    "Convolution": _convolution,
    "NativeLayerNorm": _layer_norm,
    "FusedRmsNorm": _rms_norm,
    "NativeGroupNorm": _group_norm,
    **dict.fromkeys(BATCH_NORMS, _batch_norm),
    "Embedding": _embedding,
}
