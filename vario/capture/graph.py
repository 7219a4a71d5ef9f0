"""What the layers of a model gave out in this step, read from the autograd graph before it is consumed.

Autograd keeps some outputs (of relu, sigmoid, tanh, softmax) and many inputs (of linear layers,
convolutions, norms, gelu); the input of one operation is the output of the one below. So one walk
sees most of the activations, those of functional calls too, without a hook on any module. An
activation is named after the module whose parameter is nearest below it.

Nothing is computed and nothing is kept but references; whoever walks lets them go. Tensors that hooks
pack away (checkpointing, offloading) are left alone, because unpacking may compute them anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from vario.capture.needs import Activation
from vario.capture.shards import is_here

__all__ = ["Seen", "bottom_up", "walk"]

# node: what it is the backward of, and where it keeps its own output ("" = it does not)
_OUTPUTS = {
    "ReluBackward0": ("relu", "_saved_result"),
    "SigmoidBackward0": ("sigmoid", "_saved_result"),
    "TanhBackward0": ("tanh", "_saved_result"),
    "SoftmaxBackward0": ("softmax", "_saved_result"),
    "SafeSoftmaxBackward0": ("softmax", "_saved_result"),
    "MkldnnRnnLayerBackward0": ("lstm", "_saved_result0"),  # nn.LSTM in one piece, on a CPU
    "CudnnRnnBackward0": ("rnn", "_saved_result0"),  # and LSTM, GRU, RNN on a GPU
    "LeakyReluBackward0": ("leaky_relu", ""),
    "LeakyReluBackward1": ("leaky_relu", "_saved_result"),
    "ThresholdBackward0": ("relu", ""),
    "GeluBackward0": ("gelu", ""),
    "SiluBackward0": ("silu", ""),
    "HardtanhBackward0": ("hardtanh", ""),
    "AddmmBackward0": ("linear", ""),
    "MmBackward0": ("linear", ""),
    "LinearBackward0": ("linear", ""),
    "ConvolutionBackward0": ("conv", ""),
    "NativeBatchNormBackward0": ("norm", ""),
    "CudnnBatchNormBackward0": ("norm", ""),
    "MiopenBatchNormBackward0": ("norm", ""),
    "NativeLayerNormBackward0": ("norm", ""),
    "NativeGroupNormBackward0": ("norm", ""),
    "FusedRmsNormBackward0": ("norm", ""),
}

# node: which of its inputs it keeps, and which edge leads to the operation that made it
_INPUTS = {
    "AddmmBackward0": (("_saved_mat1", 1),),
    "MmBackward0": (("_saved_self", 0),),
    "LinearBackward0": (("_saved_input", 0),),
    "BmmBackward0": (("_saved_self", 0), ("_saved_mat2", 1)),
    "ConvolutionBackward0": (("_saved_input", 0),),
    "NativeBatchNormBackward0": (("_saved_input", 0),),
    "CudnnBatchNormBackward0": (("_saved_input", 0),),
    "MiopenBatchNormBackward0": (("_saved_input", 0),),
    "NativeLayerNormBackward0": (("_saved_input", 0),),
    "NativeGroupNormBackward0": (("_saved_input", 0),),
    "FusedRmsNormBackward0": (("_saved_input", 0),),
    "GeluBackward0": (("_saved_self", 0),),
    "SiluBackward0": (("_saved_self", 0),),
    "LeakyReluBackward0": (("_saved_self", 0),),
    "HardtanhBackward0": (("_saved_self", 0),),
    "EluBackward0": (("_saved_self", 0),),
    "MulBackward0": (("_saved_self", 0), ("_saved_other", 1)),
    "PowBackward0": (("_saved_self", 0),),
    "MaxPool2DWithIndicesBackward0": (("_saved_self", 0),),
    "MseLossBackward0": (("_saved_self", 0),),
    "BinaryCrossEntropyBackward0": (("_saved_self", 0),),
    "BinaryCrossEntropyWithLogitsBackward0": (("_saved_self", 0),),
}

# same entries in another order, shape or precision: looked through
_SAME_ENTRIES = frozenset(
    f"{name}Backward{number}"
    for name in ("View", "UnsafeView", "ReshapeAlias", "T", "Transpose", "Permute", "Clone", "ToCopy")
    + ("Squeeze", "Unsqueeze", "Alias")
    for number in (0, 1)
)
_LAYERS = frozenset({"linear", "conv", "norm"})
_CHANNELS_SECOND = frozenset({"ConvolutionBackward0", "NativeBatchNormBackward0", "CudnnBatchNormBackward0"})
# what happens inside these is not in this graph
_OPAQUE = ("CompiledFunctionBackward", "CheckpointFunctionBackward", "CopySlices")
_DOUBLED = {
    "LogSoftmaxBackward0": "SoftmaxBackward0",
    "LogsumexpBackward0": "SoftmaxBackward0",  # a cross entropy that is written by hand
    "BinaryCrossEntropyWithLogitsBackward0": "SigmoidBackward0",
}

_UNKNOWN = object()


@dataclass(slots=True)
class Seen:
    """What one walk found. ``missed``: what is in the graph but could not be read, and why."""

    activations: list[Activation] = field(default_factory=list)
    double_softmax: bool = False
    missed: dict[str, int] = field(default_factory=dict)


def walk(loss: Tensor | Iterable[Tensor], names: Mapping[int, str]) -> Seen:
    """Walk from the loss before its backward runs; ``names`` gives the name of a parameter by its id.

    Never raises: what cannot be read is counted in ``missed``.
    """
    seen = Seen()
    roots = [loss] if isinstance(loss, Tensor) else list(loss)
    order = bottom_up([root.grad_fn for root in roots if root.grad_fn is not None])
    places = _places(order, names)
    outputs: dict[Any, Tensor] = {}
    for node in order:
        kind = type(node).__name__
        _note_inputs(node, kind, outputs, seen)
        if kind in _DOUBLED:
            below = _through(node.next_functions[0][0])
            seen.double_softmax |= type(below).__name__ == _DOUBLED[kind]
        if kind.startswith(_OPAQUE):
            _miss(seen, kind)
    for node in order:
        _note_output(node, places.get(node), outputs, seen)
    return seen


def bottom_up(roots: list[Any]) -> list[Any]:
    """All nodes, each after those that it reads from."""
    order: list[Any] = []
    state: dict[Any, bool] = {}
    todo = list(roots)
    while todo:
        node = todo[-1]
        if node not in state:
            state[node] = False
            todo.extend(below for below, _ in node.next_functions if below is not None and below not in state)
        else:
            todo.pop()
            if not state[node]:
                state[node] = True
                order.append(node)
    return order


def _places(order: Iterable[Any], names: Mapping[int, str]) -> dict[Any, tuple[int, str, str]]:
    """For each node: steps down to the nearest named parameter, its module, the node that uses it."""
    places: dict[Any, tuple[int, str, str]] = {}
    for node in order:
        kind = type(node).__name__
        if kind == "AccumulateGrad":
            name = names.get(id(node.variable))
            if name is not None:
                places[node] = (0, name.rpartition(".")[0] or name, "")
            continue
        near = [places[below] for below, _ in node.next_functions if below in places]
        if near:
            steps, where, user = min(near, key=lambda place: place[0])  # the first of equals: stable
            further = 0 if kind in _SAME_ENTRIES else 1
            places[node] = (steps + further, where, kind if not user and further else user)
    return places


def _note_inputs(node: Any, kind: str, outputs: dict[Any, Tensor], seen: Seen) -> None:
    """What a node keeps of its inputs is the output of the nodes below."""
    for attribute, edge in _INPUTS.get(kind, ()):
        below = _through(node.next_functions[edge][0]) if edge < len(node.next_functions) else None
        if below is None or below in outputs or type(below).__name__ not in _OUTPUTS:
            continue
        value = _saved(node, attribute, seen)
        if value is not None:
            outputs[below] = value


def _note_output(
    node: Any, place: tuple[int, str, str] | None, outputs: dict[Any, Tensor], seen: Seen
) -> None:
    kind, attribute = _OUTPUTS.get(type(node).__name__, ("", ""))
    if not kind or place is None:
        return
    steps, where, user = place
    if kind in _LAYERS and steps != 1:
        return  # a product of activations, not a layer with a parameter of its own
    value = _saved(node, attribute, seen) if attribute else outputs.get(node)
    if value is None:
        if not attribute and kind not in _LAYERS:
            _miss(seen, f"{kind}: its output is not kept")
        return
    if kind == "hardtanh":
        kind = "relu" if node._saved_min_val == 0 else "tanh"
    channel_dim = 1 if user in _CHANNELS_SECOND else value.ndim - 1
    seen.activations.append(Activation(where, kind, value.detach(), min(channel_dim, value.ndim - 1)))


def _through(node: Any) -> Any:
    """The first node below that is more than another view of the same entries."""
    while node is not None and type(node).__name__ in _SAME_ENTRIES:
        node = node.next_functions[0][0]
    return node


def _saved(node: Any, attribute: str, seen: Seen) -> Tensor | None:
    raw = getattr(node, attribute.replace("_saved", "_raw_saved", 1), None)
    # older releases of torch do not tell whether a hook packed the tensor: then it is left alone
    if raw is None or getattr(raw, "unpack_hook", _UNKNOWN) is not None:
        _miss(seen, "saved by a hook (checkpointing or offloading)")
        return None
    try:
        value = getattr(node, attribute)
    except RuntimeError:  # changed in place since, or already released
        _miss(seen, "changed in place or released")
        return None
    return value if isinstance(value, Tensor) and is_here(value) else None


def _miss(seen: Seen, reason: str) -> None:
    seen.missed[reason] = seen.missed.get(reason, 0) + 1
