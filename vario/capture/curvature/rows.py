"""Gradients of single examples from the kept graph: sampled labels, the tangent kernel, the Fisher matrix.

One backward of some rows of the network's outputs gives what only these examples add. So the trace of the
Gauss-Newton matrix is the mean squared length of gradients with labels drawn from the model's own
probabilities: a draw is worth tens of random probes, and costs one backward.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge

from vario.capture.curvature import graph
from vario.capture.curvature.graph import gradient
from vario.capture.curvature.kept import KeptGraph, mask_of
from vario.capture.curvature.lanczos import random_start
from vario.capture.curvature.trace import Estimate, mean_of
from vario.capture.per_example.found import on_host, square
from vario.capture.per_example.probe import Probe
from vario.nouns import NotApplicable

if TYPE_CHECKING:
    from vario.methods.optimizers.m_fac import FisherInverse

__all__ = ["example_gradients", "inverse_fisher", "sampled_trace", "tangent_kernel"]


def sampled_trace(kept: KeptGraph, *, examples: int, draws: int = 4, seed: int = 0) -> Estimate:
    """Trace of the Gauss-Newton matrix of a cross entropy. Raises NotApplicable for another loss."""
    found = [_softmax(kept, node, edge) for node, edge in graph.softmaxes(kept.loss)]
    if not found or len(found) != len(kept.heads()):
        raise NotApplicable("labels can be drawn only where every output goes through a softmax")
    draw = torch.Generator("cpu").manual_seed(seed)
    edges = [edge for edge, _, _, _ in found]
    traces = []
    for _ in range(draws):
        seeds = [_drawn(shares, weights, dim, draw) for _, shares, weights, dim in found]
        probe = Probe(
            kept.loss, {id(p): n for p, n in zip(kept.params, kept.names, strict=True)}, examples=examples
        )
        try:
            grads = gradient(edges, kept.params, seeds, allow_unused=True)
        finally:
            squares = probe.close().squares
        told = []
        for name, grad in zip(kept.names, grads, strict=True):
            if name in squares:  # examples apart: what they share has mean zero, and would only add noise
                told.append(squares[name].sum())
            elif grad is not None:
                told.append(square(grad))
        traces.append(math.fsum(on_host(told)) / kept.scale)
    return mean_of(traces, products=draws)


def _softmax(kept: KeptGraph, node: Any, edge: GradientEdge) -> tuple[GradientEdge, Tensor, Tensor, int]:
    """The outputs, their probabilities, each row's weight in the loss, and the dimension of classes."""
    dim = node._saved_dim % node._saved_result.dim()
    shares = node._saved_result.detach().exp()
    arriving = gradient(kept.loss, [GradientEdge(node, 0)])[0]
    if arriving is None:
        raise NotApplicable("the loss does not depend on its softmax")
    weights = -arriving.detach().sum(dim, keepdim=True)
    if bool((weights < 0).any()):
        raise NotApplicable("some examples have a negative weight: the matrix has no label distribution")
    tangent = random_start(shares, 0)
    expected = weights * shares * (tangent - (shares * tangent).sum(dim, keepdim=True))
    curved = _second_at(kept, edge, tangent)
    if not torch.allclose(curved, expected, rtol=1e-2, atol=1e-3 * float(expected.abs().max()) + 1e-12):
        raise NotApplicable("the loss is not a cross entropy of its softmax")
    return edge, shares, weights, dim


def _second_at(kept: KeptGraph, edge: GradientEdge, tangent: Tensor) -> Tensor:
    first = gradient(kept.loss, [edge], create_graph=True)[0]
    if first is None or not first.requires_grad:
        return torch.zeros_like(tangent)
    second = gradient(first, [edge], tangent.to(first), allow_unused=True)[0]
    return torch.zeros_like(tangent) if second is None else second.detach()


def _drawn(shares: Tensor, weights: Tensor, dim: int, draw: torch.Generator) -> Tensor:
    """sqrt(weight) (p - onehot(y)) with y drawn from p, in each row."""
    last = shares.movedim(dim, -1)
    rows = last.reshape(-1, last.shape[-1]).double().cpu()
    labels = torch.multinomial(rows, 1, generator=draw).view(last.shape[:-1]).to(shares.device)
    hot = torch.zeros_like(last).scatter_(-1, labels[..., None], 1.0).movedim(-1, dim)
    return weights.sqrt() * (shares - hot)


def example_gradients(kept: KeptGraph, rows: Sequence[int], *, examples: int) -> Tensor:
    """Gradients (rows, size) of the losses of single examples, where the batch's is their mean."""
    mixed = graph.independent(kept.order)
    if mixed:
        raise NotApplicable(mixed)
    edges = kept.heads()
    arriving = gradient(kept.loss, edges, allow_unused=True)
    live = [(e, a * (examples / kept.scale)) for e, a in zip(edges, arriving, strict=True) if a is not None]
    return _rows(kept, [e for e, _ in live], [a for _, a in live], rows, examples)


def tangent_kernel(kept: KeptGraph, rows: Sequence[int], *, examples: int) -> Tensor:
    """<grad s(x), grad s(x')> with s the sum of the outputs over the root of their number, (rows, rows).

    It stands for the empirical tangent kernel, whose blocks it approaches as the last layer widens, at one
    backward for each example instead of one for each of its outputs.
    """
    mixed = graph.independent(kept.order)
    if mixed:
        raise NotApplicable(mixed)
    ones = []
    for edge in kept.heads():
        meta = edge.node._input_metadata[edge.output_nr]
        each = math.prod(meta.shape) // examples if examples else 0
        ones.append(
            torch.full(tuple(meta.shape), 1.0 / math.sqrt(max(1, each)), dtype=meta.dtype, device=meta.device)
        )
    found = _rows(kept, kept.heads(), ones, rows, examples)
    return (found @ found.T).double()


def inverse_fisher(
    kept: KeptGraph, rows: Sequence[int], *, examples: int, damp: float = 1e-3
) -> FisherInverse:
    """``result @ v`` solves (damp + the mean of g g' over these examples) x = v, for v of (size,)."""
    from vario.methods.optimizers.m_fac import FisherInverse

    return FisherInverse(example_gradients(kept, rows, examples=examples), damp=damp)


def _rows(
    kept: KeptGraph, edges: list[GradientEdge], values: list[Tensor], rows: Sequence[int], examples: int
) -> Tensor:
    found = []
    for row in rows:
        seeds = [value * mask_of(value, [row], examples).to(value) for value in values]
        grads = gradient(edges, kept.params, seeds, allow_unused=True)
        found.append(kept.flat(grads))
    return torch.stack(found)
