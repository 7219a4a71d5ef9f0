"""Where the examples of a batch lie in each tensor of an autograd graph.

Sizes alone do not tell: a dimension as long as the batch need not be the batch. So the axis is known
at the loss, whose rows belong to examples, and followed down through each operation by its rule. An
operation without a rule loses it, and what lies below has no known examples.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

__all__ = [
    "BATCH_NORMS",
    "Examples",
    "Layout",
    "below_batch_norm",
    "by_example",
    "is_packed",
    "kind_of",
    "layouts",
    "passes",
]

Shape = tuple[int, ...]


class Layout(NamedTuple):
    """Dimension ``dim`` has outer x examples x inner entries, with the examples in the middle."""

    dim: int
    outer: int
    inner: int


@dataclass(frozen=True, slots=True)
class Examples:
    """``count`` examples of a batch, of which those at ``places`` are looked at (None: all)."""

    count: int
    places: tuple[int, ...] | None = None
    _moved: dict[torch.device, Tensor] = field(default_factory=dict, repr=False, compare=False)

    @property
    def looked_at(self) -> int:
        return self.count if self.places is None else len(self.places)

    def numbers(self) -> list[int]:
        """Places in the batch of those that are looked at."""
        return list(range(self.count) if self.places is None else self.places)

    def pick(self, value: Tensor) -> Tensor:
        """Those that are looked at, of a tensor that has the examples as its first dimension."""
        if self.places is None:
            return value
        index = self._moved.get(value.device)
        if index is None:  # once for each device
            index = self._moved[value.device] = torch.tensor(self.places, device=value.device)
        return value.index_select(0, index)

    def of(self, value: Tensor, layout: Layout) -> Tensor:
        """(examples looked at, outer, ..., inner, ...), detached."""
        return self.pick(by_example(value.detach(), layout, self.count))


def by_example(value: Tensor, layout: Layout, examples: int) -> Tensor:
    """The tensor with the examples as its first dimension: (examples, outer, ..., inner, ...)."""
    sizes = (layout.outer, examples, layout.inner)
    parts = value.reshape(*value.shape[: layout.dim], *sizes, *value.shape[layout.dim + 1 :])
    return parts.movedim(layout.dim + 1, 0)


def layouts(
    order: Iterable[Any], roots: Mapping[Any, Layout], examples: int
) -> dict[tuple[Any, int], Layout | None]:
    """Layout of output ``nr`` of ``node`` for each (node, nr); None where it is lost.

    ``order``: all nodes, each before those that it reads from; ``roots``: the outputs where it is known.
    """
    found: dict[tuple[Any, int], Layout | None] = dict(roots)
    outputs: dict[Any, dict[int, Layout | None]] = {}
    for (node, nr), root in roots.items():
        outputs.setdefault(node, {})[nr] = root
    for node in order:
        mine = outputs.get(node)
        if not mine:
            continue
        if kind_of(node) in _PASSING and passes(node):  # each output is the input of its number
            for number, edge in enumerate(node.next_functions):
                _note(edge, mine.get(number), found, outputs)
            continue
        layout: Layout | None
        nr, layout = next(iter(mine.items()))
        if len(mine) > 1 and any(other != layout for other in mine.values()):
            layout = None
        out: Shape = node._input_metadata[nr].shape if layout is not None else ()
        for edge, (below, number) in enumerate(node.next_functions):
            if below is None or kind_of(below) == "AccumulateGrad":
                continue
            there = None
            if layout is not None:
                shape = below._input_metadata[number].shape
                there = _below(node, layout, out, shape, edge, examples)
            _note((below, number), there, found, outputs)
    return found


def _note(
    edge: tuple[Any, int],
    there: Layout | None,
    found: dict[tuple[Any, int], Layout | None],
    outputs: dict[Any, dict[int, Layout | None]],
) -> None:
    """What one of its readers tells of an output: where another tells otherwise, nothing is known."""
    below, number = edge
    if below is None or kind_of(below) == "AccumulateGrad":
        return
    found[edge] = there if edge not in found or found[edge] == there else None
    outputs.setdefault(below, {})[number] = found[edge]


def below_batch_norm(order: Iterable[Any]) -> set[Any]:
    """What feeds a BatchNorm in train mode; ``order`` as for ``layouts``."""
    below: set[Any] = set()
    for node in order:
        if node in below:
            below.update(under for under, _ in node.next_functions if under is not None)
        elif kind_of(node) in BATCH_NORMS and node._saved_training and node.next_functions[0][0]:
            below.add(node.next_functions[0][0])
    return below


def kind_of(node: Any) -> str:
    """The operation that a node is the backward of."""
    return _kind_of(node.__class__)


@functools.cache
def _kind_of(kind: type) -> str:
    return kind.__name__.rstrip("0123456789").removesuffix("Backward")


def passes(node: Any) -> bool:
    """Whether it hands on what it is given, and is there for the hooks on it alone."""
    if kind_of(node) not in _PASSING:
        return False
    return str(getattr(type(node), "_forward_cls", type(node)).__module__).startswith("torch.")


_PASSING = frozenset(("BackwardHookFunction", "RegisterPostBackwardFunction", "_DDPSink"))


def is_packed(node: Any) -> bool:
    """Whether it keeps tensors that a hook packed away, as checkpointing does: reading them runs code.

    Older releases of torch do not tell; then it is taken to be so.
    """
    for name in _kept(node.__class__):
        raw = getattr(node, name, None)
        several = raw if isinstance(raw, (tuple, list)) else (raw,)
        if any(one is not None and getattr(one, "unpack_hook", _UNKNOWN) is not None for one in several):
            return True
    return False


_UNKNOWN = object()


@functools.cache
def _kept(kind: type) -> tuple[str, ...]:
    return tuple(name for name in dir(kind) if name.startswith("_raw_saved_"))


def _below(node: Any, at: Layout, out: Shape, shape: Shape, edge: int, examples: int) -> Layout | None:
    """Layout of an input of this shape, from that of the output; None where it cannot be told."""
    name = kind_of(node)
    if name in _ELEMENTWISE:
        return _broadcast(at, out, shape)
    rule = _RULES.get(name)
    if rule is None or (edge > 0 and name in _ONE_INPUT):
        return None
    try:
        there = rule(node, at, out, shape, edge, examples)
    except (AttributeError, TypeError):  # this release, or this form of the operation, does not keep it
        return None
    if there is None or not 0 <= there.dim < len(shape):
        return None
    return there if shape[there.dim] == there.outer * examples * there.inner else None


def _broadcast(at: Layout, out: Shape, shape: Shape) -> Layout | None:
    dim = at.dim - (len(out) - len(shape))
    return at._replace(dim=dim) if dim >= 0 and shape[dim] == out[at.dim] else None


def _view(node: Any, at: Layout, out: Shape, shape: Shape, edge: int, examples: int) -> Layout | None:
    """Entries keep their order: find the dimension in which one step to the next example lies."""
    del node, edge
    stride = at.inner * math.prod(out[at.dim + 1 :])
    below = 1
    for dim in range(len(shape) - 1, -1, -1):
        if below <= stride and stride * examples <= below * shape[dim]:
            inner = stride // below
            whole = stride % below == 0 and shape[dim] % (inner * examples) == 0
            return Layout(dim, shape[dim] // (inner * examples), inner) if whole else None
        below *= shape[dim]
    return None


def _same_dim(node: Any, at: Layout, out: Shape, shape: Shape, edge: int, examples: int) -> Layout | None:
    del node, out, shape, edge, examples
    return at


def _leading(most: int) -> Callable[..., Layout | None]:
    """Only the first ``most`` dimensions are those of a batch; the others are worked on."""

    def rule(node: Any, at: Layout, out: Shape, shape: Shape, edge: int, examples: int) -> Layout | None:
        del node, out, shape, edge, examples
        return at if at.dim < most else None

    return rule


def _not_its_own(node: Any, at: Layout, out: Shape, shape: Shape, edge: int, examples: int) -> Layout | None:
    """The operation works along one dimension, and leaves the others where they are."""
    del edge, examples
    if kind_of(node) == "Slice" and out == shape:
        return at
    return at if at.dim != _dim(node._saved_dim, len(out)) else None


def _normalized(node: Any, at: Layout, out: Shape, shape: Shape, edge: int, examples: int) -> Layout | None:
    del shape, edge, examples
    return at if at.dim < len(out) - len(node._saved_normalized_shape) else None


def _batch_norm(node: Any, at: Layout, out: Shape, shape: Shape, edge: int, examples: int) -> Layout | None:
    """In train mode it mixes the examples: none has a gradient of its own below."""
    del out, shape, edge, examples
    return None if node._saved_training else at


def _all_but_last(node: Any, at: Layout, out: Shape, shape: Shape, edge: int, examples: int) -> Layout | None:
    del node, shape, edge, examples
    return at if at.dim < len(out) - 1 else None


def _transpose(node: Any, at: Layout, out: Shape, shape: Shape, edge: int, examples: int) -> Layout | None:
    del shape, edge, examples
    a, b = _dim(node._saved_dim0, len(out)), _dim(node._saved_dim1, len(out))
    return at._replace(dim={a: b, b: a}.get(at.dim, at.dim))


def _permute(node: Any, at: Layout, out: Shape, shape: Shape, edge: int, examples: int) -> Layout | None:
    del shape, edge, examples
    return at._replace(dim=_dim(node._saved_dims[at.dim], len(out)))


def _t(node: Any, at: Layout, out: Shape, shape: Shape, edge: int, examples: int) -> Layout | None:
    del node, shape, edge, examples
    return at._replace(dim=len(out) - 1 - at.dim)


def _expand(node: Any, at: Layout, out: Shape, shape: Shape, edge: int, examples: int) -> Layout | None:
    del node, edge, examples
    return _broadcast(at, out, shape)


def _select(node: Any, at: Layout, out: Shape, shape: Shape, edge: int, examples: int) -> Layout | None:
    """One dimension of the input is gone from the output (or none: squeezing what is longer than 1)."""
    del edge, examples
    if len(out) == len(shape):
        return at
    return at._replace(dim=at.dim + (at.dim >= _dim(node._saved_dim, len(shape))))


def _unsqueeze(node: Any, at: Layout, out: Shape, shape: Shape, edge: int, examples: int) -> Layout | None:
    del shape, edge, examples
    dim = _dim(node._saved_dim, len(out))
    return at._replace(dim=at.dim - (at.dim > dim)) if at.dim != dim else None


def _stack(node: Any, at: Layout, out: Shape, shape: Shape, edge: int, examples: int) -> Layout | None:
    return _unsqueeze(node, at, out, shape, edge, examples)


def _index(node: Any, at: Layout, out: Shape, shape: Shape, edge: int, examples: int) -> Layout | None:
    """Entries are picked by tensors; what lies before the first such dimension stays where it is."""
    del out, shape, edge, examples
    if is_packed(node):
        return None
    picked = [dim for dim, index in enumerate(node._saved_indices) if index is not None]
    return at if picked and at.dim < picked[0] else None


def _moved(node: Any, at: Layout, out: Shape, shape: Shape, edge: int, examples: int) -> Layout | None:
    """Flipped or rolled along some dimensions."""
    del shape, edge, examples
    dims = {_dim(dim, len(out)) for dim in node._saved_dims}
    return at if dims and at.dim not in dims else None


def _padded(node: Any, at: Layout, out: Shape, shape: Shape, edge: int, examples: int) -> Layout | None:
    del node, edge, examples
    return at if len(out) == len(shape) and out[at.dim] == shape[at.dim] else None


def _recurrent(node: Any, at: Layout, out: Shape, shape: Shape, edge: int, examples: int) -> Layout | None:
    """A whole layer of a recurrent net as one operation: (time, examples, features)."""
    del node, out, shape, examples
    return at if at.dim == 1 and edge == 0 else None


def _reduced(node: Any, at: Layout, out: Shape, shape: Shape, edge: int, examples: int) -> Layout | None:
    """A sum or mean over some dimensions; over all of them there is no output to have a batch."""
    del edge, examples
    given = node._saved_dim
    gone = {_dim(dim, len(shape)) for dim in (given if isinstance(given, tuple) else (given,))}
    if node._saved_keepdim:
        return at if at.dim not in gone else None
    kept = [dim for dim in range(len(shape)) if dim not in gone]
    return at._replace(dim=kept[at.dim]) if len(kept) == len(out) else None


def _addmm(node: Any, at: Layout, out: Shape, shape: Shape, edge: int, examples: int) -> Layout | None:
    """A product plus a bias; out = bias + a @ b: rows are rows of a, columns are columns of b."""
    if edge == 0:
        return _broadcast(at, out, shape)
    return _mm(node, at, out, shape, edge - 1, examples)


def _mm(node: Any, at: Layout, out: Shape, shape: Shape, edge: int, examples: int) -> Layout | None:
    """Rows of the product are rows of the first factor, columns those of the second, a batch is of both."""
    del node, shape, examples
    rows = len(out) - 2
    return at if at.dim < rows or at.dim == rows + edge else None


def _dim(number: int, count: int) -> int:
    """Autograd keeps negative dimensions as unsigned numbers."""
    signed = number - (1 << 64) if number >= 1 << 63 else number
    return signed + count if signed < 0 else signed


_ELEMENTWISE = frozenset(
    """Abs Add Addcdiv Addcmul Alias Atan Celu Clamp ClampMax ClampMin Clone Cos Cosh Div Elu Erf Exp Expm1
    Gelu Hardshrink Hardsigmoid Hardswish Hardtanh LeakyRelu Lerp Log Log10 Log1P Log2 LogSigmoid MaskedFill
    Maximum Minimum Mish Mul NanToNum NativeDropout Neg Pow PreluKernel Reciprocal Relu Rsqrt Rsub Sgn Sigmoid
    Silu Sin Sinh Softplus Softshrink Sqrt Sub Tan Tanh Threshold ToCopy Where""".split()
)
# what else these read are parameters
_ONE_INPUT = frozenset(
    """Convolution CudnnBatchNorm FusedRmsNorm Linear MiopenBatchNorm NativeBatchNorm NativeGroupNorm
    NativeLayerNorm""".split()
)
BATCH_NORMS = ("NativeBatchNorm", "CudnnBatchNorm", "MiopenBatchNorm")
_ATTENTIONS = tuple(
    f"ScaledDotProduct{kind}Attention{where}"
    for kind, where in (("Flash", "ForCpu"), ("Flash", ""), ("Efficient", ""), ("Cudnn", ""))
)
_POOLS = """AdaptiveAvgPool2D AdaptiveAvgPool3D AdaptiveMaxPool2D AdaptiveMaxPool3D AvgPool2D AvgPool3D
    MaxPool2DWithIndices MaxPool3DWithIndices MkldnnAdaptiveAvgPool2D UpsampleBicubic2D UpsampleBilinear2D
    UpsampleLinear1D UpsampleNearest1D UpsampleNearest2D UpsampleNearest3D""".split()
_RULES: dict[str, Callable[..., Layout | None]] = {
    **dict.fromkeys(("View", "UnsafeView", "ReshapeAlias"), _view),
    **dict.fromkeys(
        """Cat Cumsum Glu IndexSelect LogSoftmax Narrow SafeSoftmax Slice Softmax Split SplitWithSizes
        UnsafeSplit""".split(),
        _not_its_own,
    ),
    **dict.fromkeys(("Select", "Squeeze", "Unbind"), _select),
    **dict.fromkeys(("Amax", "Amin", "LinalgVectorNorm", "Logsumexp", "Max", "Mean", "Sum"), _reduced),
    **dict.fromkeys(
        ("Convolution", "NativeGroupNorm", "PixelShuffle", "PixelUnshuffle", *_POOLS), _leading(1)
    ),
    **dict.fromkeys(_ATTENTIONS, _leading(1)),
    **dict.fromkeys(("NativeLayerNorm", "FusedRmsNorm"), _normalized),
    **dict.fromkeys(BATCH_NORMS, _batch_norm),
    "Linear": _all_but_last,
    "Transpose": _transpose,
    "Permute": _permute,
    "T": _t,
    "Expand": _expand,
    "Unsqueeze": _unsqueeze,
    "Stack": _stack,
    "Index": _index,
    **dict.fromkeys(("Flip", "Roll"), _moved),
    **dict.fromkeys(("ConstantPadNd", "ReflectionPad1D", "ReflectionPad2D", "ReplicationPad2D"), _padded),
    "MkldnnRnnLayer": _recurrent,
    **dict.fromkeys(("Addmm", "Baddbmm"), _addmm),
    "Mm": _mm,
    "Bmm": _mm,
}
