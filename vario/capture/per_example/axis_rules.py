"""Where the examples lie in the input of an operation, given where they lie in its output, kind by kind.

Sizes alone do not tell: a dimension as long as the batch need not be the batch. An operation without a rule
loses the examples, and what lies below has none that are known.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from vario.capture.per_example.axis_moves import PICKS, asked, index, joined, repeated
from vario.capture.per_example.axis_rows import SPLITS, cut, gathered, put, regrouped, sent, summed
from vario.capture.per_example.batch_axis import BATCH_NORMS, Layout, Shape, dim_of, kind_of

__all__ = ["below", "is_elementwise", "of_parameter", "works_along"]


def below(
    node: Any, at: Layout, out: Shape, shape: Shape, edge: int, examples: int, *, table: bool = False
) -> Layout | None:
    """Layout of an input of this shape, from that of the output; None where it cannot be told.

    ``table``: it is made of parameters alone, and what is looked up in it are no rows of examples.
    """
    name = kind_of(node)
    if name in _ELEMENTWISE:
        return _broadcast(at, out, shape)
    rule = _RULES.get(name)
    if rule is None or (edge > 0 and name in _ONE_INPUT) or (table and _looks_up(name, at, out, edge)):
        return None
    try:
        there = rule(node, at, out, shape, edge, examples)
    except (
        AttributeError,
        IndexError,
        RuntimeError,
        TypeError,
    ):  # this release, or this form of the operation, does not keep it
        return None
    if there is None or not 0 <= there.dim < len(shape):
        return None
    return there if shape[there.dim] == there.length(examples) else None


def _looks_up(name: str, at: Layout, out: Shape, edge: int) -> bool:
    """Whether rows are picked by the operation, or by what it multiplies with."""
    factor = edge - (name == "Addmm")
    if name in ("Addmm", "Bmm", "Mm") and factor >= 0:
        return at.dim == len(out) - 1 - factor
    return name in _ROUTES


def is_elementwise(node: Any) -> bool:
    """Whether what it reads is broadcast to the shape of its output."""
    return kind_of(node) in _ELEMENTWISE


def of_parameter(node: Any, at: Layout, out: Shape) -> bool:
    """Whether this dimension of the output is one of what the operation reads for its parameter."""
    dim = _FEATURES.get(kind_of(node))
    return dim is not None and at == Layout(dim % len(out), 1, 1)


def works_along(node: Any, at: Layout, examples: int) -> bool:
    """Whether a layer, of an input that has no gradient, works along this dimension of its output."""
    if kind_of(node) not in _FEATURES or node.next_functions[0][0] is not None:
        return False
    out = node._input_metadata[0].shape
    return below(node, at, out, out, 0, examples) is None


def _broadcast(at: Layout, out: Shape, shape: Shape) -> Layout | None:
    dim = at.dim - (len(out) - len(shape))
    return at._replace(dim=dim) if dim >= 0 and shape[dim] == out[at.dim] else None


def _view(node: Any, at: Layout, out: Shape, shape: Shape, edge: int, examples: int) -> Layout | None:
    """Entries keep their order: find the dimension in which one step to the next example lies."""
    if at.ragged:
        return regrouped(at, out, shape, examples)
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
    del edge
    if kind_of(node) == "Slice" and out == shape:
        return at
    if at.dim != dim_of(node._saved_dim, len(out)):
        return at
    return cut(node, at, shape, examples) if kind_of(node) == "Slice" else None


def _normalized(node: Any, at: Layout, out: Shape, shape: Shape, edge: int, examples: int) -> Layout | None:
    del shape, edge, examples
    return at if at.dim < len(out) - len(node._saved_normalized_shape) else None


def _batch_norm(node: Any, at: Layout, out: Shape, shape: Shape, edge: int, examples: int) -> Layout | None:
    """In train mode it mixes the examples: none has a gradient of its own below. Not where they lie with the
    channels, as for an instance norm, whose scale and shift are then repeated for each of them."""
    del out, shape, examples
    if edge:
        return at._replace(dim=0) if at.dim == 1 else None
    return None if node._saved_training and at.dim != 1 else at


def _all_but(last: int) -> Callable[..., Layout | None]:
    """The last dimensions are worked on."""

    def rule(node: Any, at: Layout, out: Shape, shape: Shape, edge: int, examples: int) -> Layout | None:
        del node, shape, edge, examples
        return at if at.dim < len(out) - last else None

    return rule


def _transpose(node: Any, at: Layout, out: Shape, shape: Shape, edge: int, examples: int) -> Layout | None:
    del shape, edge, examples
    a, b = dim_of(node._saved_dim0, len(out)), dim_of(node._saved_dim1, len(out))
    return at._replace(dim={a: b, b: a}.get(at.dim, at.dim))


def _permute(node: Any, at: Layout, out: Shape, shape: Shape, edge: int, examples: int) -> Layout | None:
    del shape, edge, examples
    return at._replace(dim=dim_of(node._saved_dims[at.dim], len(out)))


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
    return at._replace(dim=at.dim + (at.dim >= dim_of(node._saved_dim, len(shape))))


def _classified(node: Any, at: Layout, out: Shape, shape: Shape, edge: int, examples: int) -> Layout | None:
    """Classes are behind the examples in what a loss for each place is given."""
    del node, out, shape, edge, examples
    return at._replace(dim=at.dim + (at.dim > 0))


def _unsqueeze(node: Any, at: Layout, out: Shape, shape: Shape, edge: int, examples: int) -> Layout | None:
    del shape, edge, examples
    dim = dim_of(node._saved_dim, len(out))
    return at._replace(dim=at.dim - (at.dim > dim)) if at.dim != dim else None


def _stack(node: Any, at: Layout, out: Shape, shape: Shape, edge: int, examples: int) -> Layout | None:
    return _unsqueeze(node, at, out, shape, edge, examples)


def _moved(node: Any, at: Layout, out: Shape, shape: Shape, edge: int, examples: int) -> Layout | None:
    """Flipped or rolled along some dimensions."""
    del shape, edge, examples
    dims = {dim_of(dim, len(out)) for dim in node._saved_dims}
    return at if dims and at.dim not in dims else None


def _padded(node: Any, at: Layout, out: Shape, shape: Shape, edge: int, examples: int) -> Layout | None:
    del node, edge, examples
    return at if len(out) == len(shape) and out[at.dim] == shape[at.dim] else None


def _diagonal(node: Any, at: Layout, out: Shape, shape: Shape, edge: int, examples: int) -> Layout | None:
    """Two dimensions are gone, and the diagonal is the last."""
    del edge, examples
    gone = {dim_of(node._saved_dim1, len(shape)), dim_of(node._saved_dim2, len(shape))}
    kept = [dim for dim in range(len(shape)) if dim not in gone]
    return at._replace(dim=kept[at.dim]) if at.dim < len(out) - 1 else None


def _unfold(node: Any, at: Layout, out: Shape, shape: Shape, edge: int, examples: int) -> Layout | None:
    del out, edge, examples
    return at if at.dim != dim_of(node._saved_dimension, len(shape)) else None


def _pairs(node: Any, at: Layout, out: Shape, shape: Shape, edge: int, examples: int) -> Layout | None:
    """Distances of all rows of one to all rows of the other."""
    del node, shape, examples
    return at if at.dim < len(out) - (2 if edge else 1) else None


def _trilinear(node: Any, at: Layout, out: Shape, shape: Shape, edge: int, examples: int) -> Layout | None:
    """Each of three is expanded along some dimensions of a product that is then summed over others."""
    del shape, examples
    summed, expanded = (
        node._saved_sumdim,
        (node._saved_expand1, node._saved_expand2, node._saved_expand3)[edge],
    )
    dim = [dim for dim in range(len(out) + len(summed)) if dim not in summed][at.dim]
    return at._replace(dim=dim - sum(one < dim for one in expanded)) if dim not in expanded else None


def _transformed(node: Any, at: Layout, out: Shape, shape: Shape, edge: int, examples: int) -> Layout | None:
    """By Fourier, along some dimensions."""
    del shape, edge, examples
    return at if at.dim not in {dim_of(dim, len(out)) for dim in node._saved_dim} else None


def _aligned(node: Any, at: Layout, out: Shape, shape: Shape, edge: int, examples: int) -> Layout | None:
    """Of what is (time, examples, classes), a loss for each example."""
    del node, out, shape, edge, examples
    return Layout(1, 1, 1) if at == Layout(0, 1, 1) else None


def _added_rows(node: Any, at: Layout, out: Shape, shape: Shape, edge: int, examples: int) -> Layout | None:
    """What rows are added to, or put in place of, keeps its own."""
    if edge == 0 or at.dim != dim_of(node._saved_dim, len(out)):
        return at
    return sent(node, at, shape, examples)


def _recurrent(node: Any, at: Layout, out: Shape, shape: Shape, edge: int, examples: int) -> Layout | None:
    """A whole layer of a recurrent net as one operation: (time, examples, features)."""
    del node, out, shape, examples
    return at if at.dim == 1 and edge == 0 else None


def _reduced(node: Any, at: Layout, out: Shape, shape: Shape, edge: int, examples: int) -> Layout | None:
    """A sum or mean over some dimensions; over all of them there is no output to have a batch."""
    del edge, examples
    given = node._saved_dim
    gone = {dim_of(dim, len(shape)) for dim in (given if isinstance(given, tuple) else (given,))}
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
    rows = len(out) - 2
    if at.dim < rows or at.dim == rows + edge:
        return at
    return summed(node, at, shape, edge, examples)


_ELEMENTWISE = frozenset(
    """Abs Acos Acosh Add Addcdiv Addcmul Alias Angle Asin Asinh Atan Atan2 Atanh BinaryCrossEntropy
    BinaryCrossEntropyWithLogits Ceil Celu Clamp ClampMax ClampMin Clone Complex Conj ConjPhysical
    Copysign Cos Cosh Digamma Div Elu Erf Erfc Erfinv Exp Exp2 Expm1
    FakeQuantizePerTensorAffineCachemask FakeQuantizePerTensorAffineCachemaskTensorQparams Floor Frac
    Gelu Hardshrink Hardsigmoid Hardswish Hardtanh HuberLoss Hypot Imag LeakyRelu Lerp Lgamma Log Log10
    Log1P Log2 LogSigmoid Logaddexp Logaddexp2 Logit MaskedFill Maximum Minimum Mish MseLoss Mul
    NanToNum NativeDropout Neg Polar Pow PreluKernel Real Reciprocal Relu Remainder Round
    RreluWithNoise Rsqrt Rsub Sgn Sigmoid Sign Silu Sin Sinc Sinh SmoothL1Loss SoftMarginLoss Softplus
    Softshrink Sqrt Sub Tan Tanh Threshold ToCopy Trunc Where Xlogy""".split()
)
# what else these read are parameters, or is written into places that they do not tell
_ONE_INPUT = frozenset(
    """Convolution FusedRmsNorm GroupedMm Linear MaskedScatter Mv NativeGroupNorm NativeLayerNorm""".split()
)
_ATTENTIONS = tuple(
    f"ScaledDotProduct{kind}Attention{where}"
    for kind, where in (("Flash", "ForCpu"), ("Flash", ""), ("Efficient", ""), ("Cudnn", ""))
)
_POOLS = """AdaptiveAvgPool2D AdaptiveAvgPool3D AdaptiveMaxPool2D AdaptiveMaxPool3D AvgPool2D AvgPool3D
    Col2Im FractionalMaxPool2D FractionalMaxPool3D GridSampler2D GridSampler3D Im2Col MaxPool2DWithIndices
    MaxPool3DWithIndices MaxUnpool2D MaxUnpool3D MkldnnAdaptiveAvgPool2D UpsampleBicubic2D UpsampleBicubic2DAa
    UpsampleBilinear2D UpsampleBilinear2DAa UpsampleLinear1D UpsampleNearest1D UpsampleNearest2D
    UpsampleNearest3D UpsampleNearestExact1D UpsampleNearestExact2D UpsampleNearestExact3D
    UpsampleTrilinear3D""".split()
_PADS = ("ConstantPadNd", *(f"{kind}Pad{n}D" for kind in ("Reflection", "Replication") for n in (1, 2, 3)))
_FEATURES = {
    **dict.fromkeys(("Convolution", "NativeGroupNorm", *BATCH_NORMS), 1),
    **dict.fromkeys("CudnnRnn Embedding FusedRmsNorm Linear MkldnnRnnLayer NativeLayerNorm".split(), -1),
}
_ROUTES = (*PICKS, "Gather", "IndexAdd", "IndexCopy", "IndexPut", "Scatter", "ScatterAdd", *SPLITS)
_RULES: dict[str, Callable[..., Layout | None]] = {
    **dict.fromkeys(("View", "UnsafeView", "ReshapeAlias"), _view),
    **dict.fromkeys(
        """Cumprod Cumsum Glu Logcumsumexp LogSoftmax Narrow SafeSoftmax Slice Softmax Sort Split
        SplitWithSizes Topk UnsafeSplit""".split(),
        _not_its_own,
    ),
    "NllLoss2D": _classified,
    **dict.fromkeys(("Select", "Squeeze", "Unbind"), _select),
    **dict.fromkeys(
        """Amax Amin Kthvalue LinalgVectorNorm Logsumexp Max Mean Median Min Mode Nanmedian Norm Prod Std Sum
        Var""".split(),
        _reduced,
    ),
    **dict.fromkeys(
        (
            "Convolution",
            "AffineGridGenerator",
            "ChannelShuffle",
            "MultiMarginLoss",
            "MultilabelMarginLoss",
            "NativeChannelShuffle",
            "NativeGroupNorm",
            "NllLoss",
            "PixelShuffle",
            "PixelUnshuffle",
            *_POOLS,
        ),
        _leading(1),
    ),
    **dict.fromkeys(_ATTENTIONS, _leading(1)),
    **dict.fromkeys(("NativeLayerNorm", "FusedRmsNorm"), _normalized),
    **dict.fromkeys(BATCH_NORMS, _batch_norm),
    **dict.fromkeys(("Linear", "ViewAsReal"), _all_but(1)),
    **dict.fromkeys(("Tril", "Triu"), _all_but(2)),
    **dict.fromkeys(("MaskedScatter", "Mv", "ViewAsComplex"), _same_dim),
    "Gather": gathered,
    "IndexPut": put,
    "GroupedMm": _all_but(1),
    **dict.fromkeys(("IndexAdd", "IndexCopy", "IndexFill", "Scatter", "ScatterAdd"), _added_rows),
    **dict.fromkeys(("Cdist", "EuclideanDist"), _pairs),
    **dict.fromkeys(("FftC2C", "FftC2R", "FftR2C"), _transformed),
    **dict.fromkeys(("CtcLoss", "CudnnCtcLoss"), _aligned),
    "Cat": joined,
    **dict.fromkeys(("AsStrided", "CopySlices", "Rot90"), asked),
    "Diagonal": _diagonal,
    "Repeat": repeated,
    "Trilinear": _trilinear,
    "Unfold": _unfold,
    "Transpose": _transpose,
    "Permute": _permute,
    "T": _t,
    "Expand": _expand,
    "Unsqueeze": _unsqueeze,
    "Stack": _stack,
    **dict.fromkeys(PICKS, index),
    **dict.fromkeys(("Flip", "Roll"), _moved),
    **dict.fromkeys(_PADS, _padded),
    "MkldnnRnnLayer": _recurrent,
    **dict.fromkeys(("Addmm", "Baddbmm"), _addmm),
    "Mm": _mm,
    "Bmm": _mm,
}
