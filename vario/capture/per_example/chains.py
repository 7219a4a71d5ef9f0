"""What lies between a parameter and the operation that mixes it with the examples: no example is in it.

A transposed, sliced, normalised or merged weight (weight norm, LoRA, a table of positions) is used as if it
were a parameter itself; a share of it is then carried down to the true parameters by the backward of the
operations between, which are called one by one. That is possible until the user's backward comes to
them, so shares are carried when they are heard.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Container, Mapping
from typing import Any

import torch
from torch import Tensor

from vario.capture.per_example.axis_moves import PICKS, picked
from vario.capture.per_example.batch_axis import is_packed, kind_of
from vario.capture.per_example.found import as_read, single

__all__ = ["Chain", "Chains"]

# same entries in another place or precision: a norm does not change
_PLACED = frozenset(
    "T Transpose Permute View UnsafeView ReshapeAlias Unsqueeze Squeeze Alias ToCopy Clone".split()
)
_CUT = frozenset("Slice Select Split SplitWithSizes UnsafeSplit Unbind Narrow".split())  # of parts not
_WORKED = frozenset(
    """Abs Add Addmm Bmm Cat Clamp ClampMax ClampMin Complex ConstantPadNd Cos Cumsum DiagEmbed Diagonal
    Div Dot Embedding Exp Expand Expm1 FftC2C FftC2R FftR2C Flip Gelu Index IndexSelect
    LinalgHouseholderProduct LinalgInvEx LinalgMatrixExp LinalgQr LinalgVectorNorm Log LogSoftmax
    MaskedFill Maximum Mean Minimum Mm Mul Mv NativeBatchNorm NativeLayerNorm Neg Norm Pow Prod
    Reciprocal Relu Repeat Roll Rsqrt Rsub Sigmoid Silu Sin Softmax Softplus Sqrt Stack Std Sub Sum
    Tanh Tril Triu UpsampleBicubic2D UpsampleBilinear2D UpsampleLinear1D Var Vdot ViewAsComplex
    ViewAsReal WeightNormInterface Where""".split()
)
_KEPT = _PLACED | _CUT
_ANY = _KEPT | _WORKED
_PICKED = "Picked"  # an embedding that looks up no row twice
_MOVED = _KEPT | {_PICKED}
_LONGEST = 64  # what is longer is a part of a model that is given no examples


class Chain:
    """The way from an operation, over none that reads an example, down to the parameters under it."""

    def __init__(self, order: list[Any], parameters: Container[Any]) -> None:
        self.top, self.order = order[0], order  # each node before those that it reads from
        self.leaves = [node for node in order if node in parameters]
        kinds = tuple("" if node in parameters else _nature_of(node) for node in order)
        self.keeps_norm, self.direct, self.turned = _nature(kinds)  # turned: None where unknown

    def carry(self, share: Tensor, number: int = 0) -> dict[Any, Tensor]:
        """The gradient of each leaf for a gradient of output ``number`` of the top."""
        arriving: dict[tuple[Any, int], Tensor] = {(self.top, number): share}
        found: dict[Any, Tensor] = {}
        for node in self.order:
            known = node._input_metadata
            given: list[Tensor | None] = [arriving.pop((node, nr), None) for nr in range(len(known))]
            if all(part is None for part in given):
                continue
            if node in self.leaves:
                found.update((node, single(part)) for part in given if part is not None)
                continue
            typed = [None if g is None else g.to(m.dtype) for g, m in zip(given, known, strict=True)]
            with torch.no_grad():
                answer = node(*typed)
            answers = answer if isinstance(answer, tuple) else (answer,)
            for place, value in zip(node.next_functions, answers, strict=True):
                if place[0] is not None and value is not None:
                    value = as_read(value, place)
                    arriving[place] = arriving[place] + value if place in arriving else value
        return found


def _nature_of(node: Any) -> str:
    kind = kind_of(node)
    return _PICKED if kind == "Embedding" and _picks(node) else kind


def _picks(node: Any) -> bool:
    tokens = node._saved_indices.flatten()
    pads = 0 <= int(node._saved_padding_idx) < 1 << 62  # none is -1, or that without a sign
    if pads or node._saved_scale_grad_by_freq or tokens.is_meta:
        return False
    return bool((tokens[1:] > tokens[:-1]).all())


@functools.cache
def _nature(kinds: tuple[str, ...]) -> tuple[bool, bool, bool | None]:
    """Whether a norm is as below, whether every entry is, and whether the matrix is transposed."""
    between = [kind for kind in kinds if kind]
    moved = all(kind in _MOVED for kind in between)
    turned = between.count("T") % 2 == 1 if {"T", "ToCopy"} >= set(between) else None
    return moved and len(kinds) == len(between) + 1, {"ToCopy"} >= set(between), turned


class Chains:
    """The chain under each node that only parameters lead to; a parameter is its own, wherever it lies."""

    def __init__(self, order: list[Any], parameters: Container[Any]) -> None:
        self._free, self._made = _free(order, parameters), dict[Any, Chain]()
        self._order, self._parameters = order, parameters
        self._place: dict[Any, int] = {}
        self._bare: dict[Any, bool] = {}
        self.picks = any(kind_of(node) in PICKS for node in order)  # rows out of more

    @property
    def nodes(self) -> Container[Any]:
        """All that have one."""
        return self._free

    def has_examples(self, node: Any, examples: int) -> bool:
        """Whether there may be examples under it after all: rows looked up by them, or constants that are."""
        return any(_meets_examples(one, examples) for one in self._free[node])

    def is_bare(self, node: Any, examples: int) -> bool:
        """Whether only parameters lead to it, and no examples are among what is looked up of them."""
        if node not in self._free:
            return False
        bare = self._bare.get(node)
        if bare is None:
            bare = self._bare[node] = not self.has_examples(node, examples)
        return bare

    def under(self, node: Any) -> Chain:
        """The chain from this node down."""
        made = self._made.get(node)
        if made is None:
            nodes = [node]
            if len(self._free[node]) > 1:
                self._place = self._place or {n: index for index, n in enumerate(self._order)}
                nodes = sorted(self._free[node], key=self._place.__getitem__)
            made = self._made[node] = Chain(nodes, self._parameters)
        return made


def _free(order: list[Any], parameters: Container[Any]) -> dict[Any, set[Any]]:
    """All nodes under each; ``order`` has each before what it reads from."""
    free: dict[Any, set[Any]] = {}
    for node in reversed(order):
        if node in parameters:
            free[node] = {node}
        elif _is_free(node, free):
            below = set().union(*(free[nxt] for nxt, _ in node.next_functions if nxt is not None))
            if len(below) < _LONGEST:
                free[node] = {node, *below}
    return free


def _is_free(node: Any, free: Mapping[Any, Any]) -> bool:
    kind = kind_of(node)
    if kind not in _ANY:
        return False
    reads = [nxt for nxt, _ in node.next_functions]
    if not any(nxt is not None for nxt in reads) or any(nxt is not None and nxt not in free for nxt in reads):
        return False
    if kind not in _KEPT and is_packed(node):
        return False
    if kind in ("Addmm", "Bmm", "Mm"):
        return all(nxt is not None for nxt in reads[-2:])
    if kind == "Mv":
        return reads[0] is not None  # a vector is no batch of examples
    if kind in ("Mul", "Div", "Pow") and None in reads:
        constants = [getattr(node, name, None) for name in ("_saved_other", "_saved_self")]
        return all(c is None or not isinstance(c, Tensor) or c.numel() == 1 or c.dim() > 1 for c in constants)
    return True


def _meets_examples(node: Any, examples: int) -> bool:
    kind, reads = kind_of(node), [edge for edge in node.next_functions if edge[0] is not None]
    if kind == "Embedding" or kind in PICKS:
        indices = (node._saved_indices,) if kind == "Embedding" else picked(node).values()
        return any(i.dim() > 0 and i.numel() and i.shape[0] % examples == 0 for i in indices)
    out = node._input_metadata[0].shape
    constants = len(reads) < len(node.next_functions) or kind in ("Expand", "Repeat")
    if not reads or not constants or not out or out[0] % examples:
        return False
    return all(math.prod(out) > math.prod(below._input_metadata[nr].shape) for below, nr in reads)
