"""What an autograd graph lets curvature be taken of, and what stands in the way.

Two things are read off the graph before anything is run: why it cannot be run once more, and the outputs of
the network that the loss is a known function of (Gauss-Newton products need them apart). Fused attention
has no second derivative in torch; while ``plain_attention`` is open, its backward is replaced, in our
passes only, by that of the same attention in plain operations, which has one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge

from vario.capture.graph import bottom_up

__all__ = [
    "attention_nodes",
    "gradient",
    "heads",
    "independent",
    "nodes_of",
    "obstacle",
    "plain_attention",
    "reached",
    "softmaxes",
]

_OPAQUE = {  # beginning of a node's name: why nothing is taken of a graph with it
    "CompiledFunctionBackward": "a compiled region has no second derivative; TORCH_COMPILE_DISABLE=1 runs "
    "the script without compiling",
    "CheckpointFunctionBackward": "re-entrant checkpointing cannot be differentiated twice",
    "BackwardHookFunctionBackward": "a module has a backward hook of the script's own, which would run again",
    "NcclBackward": "a collective operation in the graph would run again",
}
_ATTENTION = {  # node: where it keeps the mask that is added to the scores ("" = it has none)
    "ScaledDotProductFlashAttentionForCpuBackward0": "_saved_attn_mask",
    "ScaledDotProductFlashAttentionBackward0": "",
    "ScaledDotProductEfficientAttentionBackward0": "_saved_attn_bias",
    "ScaledDotProductCudnnAttentionBackward0": "_saved_attn_bias",
}
_LOSSES = {  # node of a loss that is convex in its first input: the edges that lead to it and its target
    "LogSoftmaxBackward0": (0,),
    "MseLossBackward0": (0, 1),
    "SmoothL1LossBackward0": (0, 1),
    "HuberLossBackward0": (0, 1),
    "BinaryCrossEntropyWithLogitsBackward0": (0,),
    "SoftMarginLossBackward0": (0,),
}
_ABOVE = frozenset(  # between a loss function and the number that goes backward
    f"{name}Backward{number}"
    for name in (
        *("NllLoss", "NllLoss2D", "NllLossNd", "Mean", "Sum", "Div", "Mul", "Neg", "Add", "Sub", "View"),
        *("Squeeze", "Unsqueeze", "Gather", "MaskedSelect", "Index", "ToCopy", "Where", "Expand", "Clone"),
        *("Transpose", "Permute", "UnsafeView", "ReshapeAlias", "MaskedFill", "Select", "Slice", "Stack"),
    )
    for number in (0, 1, 2)
)


def nodes_of(loss: Tensor) -> list[Any]:
    """All nodes below the loss, the lowest first."""
    return bottom_up([loss.grad_fn])


def gradient(
    outputs: Any, inputs: Any, values: Any = None, *, create_graph: bool = False, allow_unused: bool = False
) -> tuple[Tensor | None, ...]:
    """``torch.autograd.grad``, unheard by those who wait for the script's own calls; the graph is kept."""
    plain = getattr(torch.autograd.grad, "__wrapped__", torch.autograd.grad)
    found: tuple[Tensor | None, ...] = plain(
        outputs, inputs, values, retain_graph=True, create_graph=create_graph, allow_unused=allow_unused
    )
    return found


def obstacle(order: list[Any]) -> str:
    """Why this graph must not, or cannot, be run by us before its own backward; "" where it can."""
    for node in order:
        kind = type(node).__name__
        if kind == "AccumulateGrad":
            if node.variable._backward_hooks:
                return "a parameter has a hook of the script's own on its gradient, which would run again"
            continue
        for beginning, reason in _OPAQUE.items():
            if kind.startswith(beginning):
                return reason
        if isinstance(node, torch.autograd.function.BackwardCFunction):
            return f"{kind} is code of the script's own, which would run again"
        if kind in _ATTENTION and node._saved_dropout_p:
            return f"{kind} with dropout has no second derivative"
        if _packed(node):
            return "tensors are saved by hooks (checkpointing or offloading), which would run again"
    return ""


def _packed(node: Any) -> bool:
    for name in dir(type(node)):
        if name.startswith("_raw_saved_"):
            try:
                raw = getattr(node, name)
            except RuntimeError:  # released already: whoever runs it will be told
                continue
            saved = raw if isinstance(raw, (list, tuple)) else (raw,)
            if any(getattr(one, "unpack_hook", None) is not None for one in saved):
                return True
    return False


def heads(loss: Tensor) -> list[GradientEdge]:
    """Outputs of the network that a loss function known to be convex takes; [] where none is found.

    Found from the loss downward through the operations of a mean. What else is added to the loss (a
    penalty on the weights) is not a function of outputs and has no part in a Gauss-Newton matrix.
    """
    found: dict[tuple[Any, int], GradientEdge] = {}
    for node, kind in _loss_nodes(loss):
        for edge in _LOSSES[kind]:
            below, nr = node.next_functions[edge]
            if below is not None:
                found[below, nr] = GradientEdge(below, nr)
    return list(found.values())


def softmaxes(loss: Tensor) -> list[tuple[Any, GradientEdge]]:
    """Those of them that go through a softmax first: its node, and the outputs that it takes."""
    return [
        (node, GradientEdge(*node.next_functions[0]))
        for node, kind in _loss_nodes(loss)
        if kind == "LogSoftmaxBackward0" and node.next_functions[0][0] is not None
    ]


def _loss_nodes(loss: Tensor) -> list[tuple[Any, str]]:
    found: list[tuple[Any, str]] = []
    seen: set[Any] = set()
    todo = [loss.grad_fn]
    while todo:
        node = todo.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        kind = type(node).__name__
        if kind in _LOSSES:
            found.append((node, kind))
        elif kind in _ABOVE:
            todo.extend(below for below, _ in node.next_functions)
    return found


def attention_nodes(order: list[Any]) -> list[Any]:
    """The fused attentions, whose own backward cannot be differentiated."""
    return [node for node in order if type(node).__name__ in _ATTENTION]


def plain_attention(nodes: list[Any]) -> AbstractContextManager[None]:
    """While open, gradients through these fused attentions are those of plain operations."""
    return replaced(nodes, _replacement)


@contextmanager
def replaced(nodes: list[Any], replacement: Callable[[Any], Any]) -> Iterator[None]:
    """While open, the hooks that `replacement` makes answer for the backward of these nodes.

    Nodes are put in the graph's lists of hooks and taken out again: the script's backward does not see them.
    """
    handles = [node.register_hook(replacement(node)) for node in nodes]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _replacement(node: Any) -> Any:
    def replace(inputs: tuple[Tensor | None, ...], outputs: tuple[Tensor | None, ...]) -> Any:
        if outputs[0] is None:
            return None
        query, key, value = node._saved_query, node._saved_key, node._saved_value
        with torch.enable_grad():
            out = _attention(node, query, key, value)
            given = [tensor for tensor in (query, key, value) if tensor.requires_grad]
            found = iter(gradient(out, given, outputs[0], create_graph=True, allow_unused=True))
        exact = [next(found) if tensor.requires_grad else None for tensor in (query, key, value)]
        return (*exact, *inputs[3:])

    return replace


def _attention(node: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """softmax(scale Q K' + mask) V; shapes (batch, heads, tokens, width)."""
    times = query.shape[1] // key.shape[1]
    if times > 1:  # grouped queries
        key, value = key.repeat_interleave(times, 1), value.repeat_interleave(times, 1)
    scale = node._saved_scale if node._saved_scale is not None else 1 / math.sqrt(query.shape[-1])
    scores = (query @ key.transpose(-1, -2)) * scale
    attribute = _ATTENTION[type(node).__name__]
    mask = getattr(node, attribute, None) if attribute else None
    if mask is not None:
        scores = scores + mask
    if node._saved_is_causal:
        later = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).triu(1)
        scores = scores.masked_fill(later, -math.inf)
    return torch.softmax(scores, dim=-1) @ value


def independent(order: list[Any]) -> str:
    """Why the examples of the batch are not independent of one another; "" where nothing shows it."""
    for node in order:
        kind = type(node).__name__
        if "BatchNorm" in kind and getattr(node, "_saved_training", True):
            return "a batch norm in train mode mixes the examples of the batch"
    return ""


def reached(order: list[Any], names: Mapping[int, str]) -> dict[str, Tensor]:
    """The parameters of ``names`` (by id) that lie below the loss, and can carry a gradient."""
    below = {id(node.variable): node.variable for node in order if type(node).__name__ == "AccumulateGrad"}
    return {name: below[key] for key, name in names.items() if key in below}
