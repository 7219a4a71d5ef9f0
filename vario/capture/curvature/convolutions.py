"""The backward of a convolution as what it is to Gauss-Newton products: linear in the gradient that arrives.

They differentiate it by that gradient and by nothing else. torch's own second derivative works out those by
the input and by the weight as well and throws them away, which is about half of its time. While
``linear_convolutions`` is open, gradients that are taken with a graph of their own have the shorter one.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor

from vario.capture.curvature.graph import replaced

__all__ = ["convolution_nodes", "linear_convolutions"]


def convolution_nodes(order: list[Any]) -> list[Any]:
    """Those of a graph."""
    return [node for node in order if type(node).__name__ == "ConvolutionBackward0"]


def linear_convolutions(nodes: list[Any]) -> AbstractContextManager[None]:
    """While open, gradients through these convolutions are linear in what arrives, and in nothing else."""
    return replaced(nodes, _replacement)


def _replacement(node: Any) -> Any:
    def replace(inputs: tuple[Tensor | None, ...], outputs: tuple[Tensor | None, ...]) -> Any:
        arriving = outputs[0]
        if arriving is None or not arriving.requires_grad:
            return None
        settings = (
            *(node._saved_stride, node._saved_padding, node._saved_dilation),
            *(node._saved_transposed, node._saved_output_padding, node._saved_groups),
        )
        wanted = [part is not None for part in inputs]
        value, weight = node._saved_input.detach(), node._saved_weight.detach()
        with torch.enable_grad():
            return _Backward.apply(arriving, value, weight, node._saved_bias_sym_sizes_opt, settings, wanted)

    return replace


class _Backward(torch.autograd.Function):
    """Gradients at the input, the weight and the bias of a convolution of fixed input and weight."""

    @staticmethod
    def forward(ctx: Any, arriving: Tensor, value: Tensor, weight: Tensor, *more: Any) -> Any:
        bias_sizes, settings, wanted = more
        ctx.save_for_backward(value, weight)
        ctx.settings = settings
        ctx.set_materialize_grads(False)
        return torch.ops.aten.convolution_backward(arriving, value, weight, bias_sizes, *settings, wanted)

    @staticmethod
    def backward(ctx: Any, *along: Tensor | None) -> Any:
        value, weight = ctx.saved_tensors
        at_value, at_weight, at_bias = along
        total: Tensor | None = None
        if at_weight is not None:
            total = torch.convolution(value, at_weight, at_bias, *ctx.settings)
        elif at_bias is not None:
            total = at_bias.view(-1, *[1] * (value.dim() - 2))
        if at_value is not None:
            moved = torch.convolution(at_value, weight, None, *ctx.settings)
            total = moved if total is None else moved.add_(total)
        return total, None, None, None, None, None
