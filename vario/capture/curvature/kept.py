"""Second derivatives of a loss, from the graph that the script is about to go backward through.

The gradient is taken once with a graph of its own; each product with the Hessian or with the Gauss-Newton
matrix then costs one more pass through it. Nothing of the script is touched: `.grad`, random numbers and
what the graph keeps stay as they are, because everything is asked for by ``torch.autograd.grad`` while the
graph is retained. What would run code of the script's own again (hooks, checkpoints, custom functions) is
refused with the reason, and so is what torch cannot differentiate twice.

Second derivatives are those of autograd: almost everywhere. A net of ReLUs has kinks besides, which the
Hessian does not see and a finite step does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge

from vario.capture.curvature import graph
from vario.capture.curvature.convolutions import convolution_nodes, linear_convolutions
from vario.capture.curvature.graph import gradient
from vario.nouns import NotApplicable

__all__ = ["KeptGraph", "Part", "mask_of"]


class KeptGraph:
    """Products with second derivatives at the weights of now; vectors are flat (size,), over ``names``.

    ``loss``: a scalar before its backward; ``names``: parameters by id; ``scale``: what the loss was
    multiplied by for the sake of its backward (1 / micro-batches, a loss scale), and is divided by here.
    ``missed`` names the parameters that are left out, with why. Raises NotApplicable with the reason.
    Use it as a context, or ``close`` it: it keeps the graph of the gradient alive.
    """

    def __init__(self, loss: Any, names: Mapping[int, str], *, scale: float = 1.0) -> None:
        if not isinstance(loss, Tensor) or loss.numel() != 1:
            raise NotApplicable("the backward does not begin at one number")
        if loss.grad_fn is None:
            raise NotApplicable("the loss does not depend on any parameter by operations that torch follows")
        if loss.is_meta:
            raise NotApplicable("the loss has no values: it is on the meta device")
        if not bool(torch.isfinite(loss.detach())):
            raise NotApplicable(f"the loss is {float(loss.detach())}")
        self.loss, self.scale = loss, float(scale)
        self.order = graph.nodes_of(loss)
        reason = graph.obstacle(self.order)
        if reason:
            raise NotApplicable(reason)
        self.attentions = graph.attention_nodes(self.order)
        self.missed: dict[str, str] = {}
        self._choose(names)
        self._gradients: list[Tensor] | None = None
        self._heads: list[GradientEdge] | None = None
        self._of_heads: tuple[list[Tensor], list[Tensor], list[Tensor]] | None = None

    def __enter__(self) -> KeptGraph:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the graph; no product can be had any more."""
        self._gradients, self.order, self.attentions = None, [], []
        self._heads, self._of_heads = None, None
        self.loss = torch.zeros(())

    # ---- vectors

    @property
    def size(self) -> int:
        return sum(parameter.numel() for parameter in self.params)

    def zeros(self) -> Tensor:
        return torch.zeros(self.size, dtype=self._dtype, device=self.params[0].device)

    def flat(self, tensors: Sequence[Tensor | None]) -> Tensor:
        """One vector of tensors in the order of ``names``; what is missing counts as zero."""
        parts = [
            (torch.zeros_like(p) if t is None else t).detach().reshape(-1).to(self.zeros_like())
            for t, p in zip(tensors, self.params, strict=True)
        ]
        return torch.cat(parts)

    def zeros_like(self) -> Tensor:
        """An empty tensor of the vectors' precision and place."""
        return torch.empty(0, dtype=self._dtype, device=self.params[0].device)

    def split(self, vector: Tensor) -> list[Tensor]:
        """The vector's part of each parameter, in its shape, precision and place."""
        parts = torch.split(vector, [parameter.numel() for parameter in self.params])
        return [part.view(p.shape).to(p) for part, p in zip(parts, self.params, strict=True)]

    # ---- first and second derivatives

    def gradient(self) -> Tensor:
        """The gradient itself, (size,)."""
        return self.flat(self._first_pass()) / self.scale

    def hessian(self, vector: Tensor) -> Tensor:
        """The Hessian times ``vector``: one pass through the kept graph."""
        return self._second(self._first_pass(), vector)

    def gauss_newton(self, vector: Tensor) -> Tensor:
        """J' L J times ``vector``: J of the network's outputs, L the loss's own second derivative there."""
        dummies, transposed, arriving = self._network()
        live = [(d, t) for d, t in zip(self.split(vector), transposed, strict=True) if t.requires_grad]
        along = gradient([t for _, t in live], dummies, [v for v, _ in live], allow_unused=True)
        pairs = [(a, w) for a, w in zip(arriving, along, strict=True) if a.requires_grad and w is not None]
        if not pairs:
            return self.zeros()
        curved = gradient(
            [a for a, _ in pairs],
            self.heads(),
            [w.to(a) / self.scale for a, w in pairs],  # here they are small
            allow_unused=True,
        )
        return self._back(self.heads(), curved)

    def heads(self) -> list[GradientEdge]:
        """The network's outputs that a convex loss is taken of. Raises NotApplicable where none is known."""
        if self._heads is None:
            self._heads = graph.heads(self.loss)
        if not self._heads:
            raise NotApplicable("the graph shows no loss function that is known to be convex in the outputs")
        return self._heads

    def head_shape(self, edge: GradientEdge) -> tuple[int, ...]:
        """Shape of one of the ``heads``."""
        return tuple(edge.node._input_metadata[edge.output_nr].shape)

    def part(self, rows: Sequence[int], *, examples: int) -> Part:
        """The same for some examples of the batch; see ``Part``."""
        return Part(self, rows, examples=examples)

    # ---- inside

    def _choose(self, names: Mapping[int, str]) -> None:
        reached = graph.reached(self.order, names)
        self.names: list[str] = []
        self.params: list[Tensor] = []
        for name in names.values():
            parameter = reached.get(name)
            if parameter is None:
                self.missed[name] = "the loss does not depend on it"
            elif not parameter.is_floating_point() or parameter.is_complex():
                self.missed[name] = f"{parameter.dtype} has no real second derivative"
            elif name not in self.names:
                self.names.append(name)
                self.params.append(parameter)
        if not self.params:
            raise NotApplicable("the loss depends on none of the parameters that are trained")
        exact = all(parameter.dtype == torch.float64 for parameter in self.params)
        self._dtype = torch.float64 if exact else torch.float32

    def _first_pass(self) -> list[Tensor]:
        """The gradient with a graph of its own, taken when it is first asked for."""
        if self._gradients is not None:
            return self._gradients
        try:
            with graph.plain_attention(self.attentions):
                found = gradient(self.loss, self.params, create_graph=True, allow_unused=True)
        except RuntimeError as error:
            raise NotApplicable(f"the gradient cannot be taken with a graph: {_first_line(error)}") from None
        dense = [torch.zeros_like(p) if g is None else g for g, p in zip(found, self.params, strict=True)]
        if any(g.layout != torch.strided for g in dense):
            raise NotApplicable("sparse gradients have no second derivative in torch")
        self._gradients = dense
        return dense

    def _second(self, gradients: Sequence[Tensor], vector: Tensor) -> Tensor:
        pairs = [(g, v) for g, v in zip(gradients, self.split(vector), strict=True) if g.requires_grad]
        if not pairs:  # a loss that is linear in all of them
            return self.zeros()
        try:  # the pass through what was built; nothing is derived from it, so fused attention is as good
            found = gradient(
                [g for g, _ in pairs], self.params, [v.to(g) for g, v in pairs], allow_unused=True
            )
        except RuntimeError as error:
            raise NotApplicable(f"no second derivative: {_first_line(error)}") from None
        product = self.flat(found)
        return product if self.scale == 1 else product.div_(self.scale)

    def _back(self, edges: Sequence[GradientEdge], values: Sequence[Tensor | None]) -> Tensor:
        """The transposed Jacobian of the outputs times ``values``."""
        live = [(e, v) for e, v in zip(edges, values, strict=True) if v is not None]
        if not live:
            return self.zeros()
        return self.flat(gradient([e for e, _ in live], self.params, [v for _, v in live], allow_unused=True))

    def _network(self) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """Dummies u at the outputs, J'u with a graph (linear in u), and the loss's gradient there."""
        if self._of_heads is None:
            edges = self.heads()
            try:
                with graph.plain_attention(self.attentions):
                    arriving = gradient(self.loss, edges, create_graph=True, allow_unused=True)
                    known = [
                        self.zeros_like().new_zeros(self.head_shape(e)) if a is None else a
                        for e, a in zip(edges, arriving, strict=True)
                    ]
                    dummies = [torch.zeros_like(a).requires_grad_() for a in known]
                    with linear_convolutions(convolution_nodes(self.order)):
                        found = gradient(edges, self.params, dummies, create_graph=True, allow_unused=True)
            except RuntimeError as error:
                raise NotApplicable(f"no second derivative: {_first_line(error)}") from None
            transposed = [
                torch.zeros_like(p) if t is None else t for t, p in zip(found, self.params, strict=True)
            ]
            self._of_heads = dummies, transposed, known
        return self._of_heads


class Part:
    """Curvature of the mean loss over some examples of the batch, which must not depend on one another.

    ``examples`` is their number in the batch; row i of an output belongs to example i, or equally many
    neighbouring rows do. A penalty on the weights that the loss contains is left out.
    """

    def __init__(self, whole: KeptGraph, rows: Sequence[int], *, examples: int) -> None:
        mixed = graph.independent(whole.order)
        if mixed:
            raise NotApplicable(mixed)
        self._whole = whole
        edges = whole.heads()
        arriving = whole._network()[2]
        times = examples / len(rows)
        masked = []
        for value in arriving:
            masked.append(value * mask_of(value, rows, examples).to(value) * times)
        with graph.plain_attention(whole.attentions):
            found = gradient(edges, whole.params, masked, create_graph=True, allow_unused=True)
        self._gradients = [
            torch.zeros_like(p) if g is None else g for g, p in zip(found, whole.params, strict=True)
        ]

    def gradient(self) -> Tensor:
        return self._whole.flat(self._gradients) / self._whole.scale

    def hessian(self, vector: Tensor) -> Tensor:
        return self._whole._second(self._gradients, vector)


def mask_of(value: Tensor, rows: Sequence[int], examples: int) -> Tensor:
    """1 at the rows of these examples, 0 elsewhere; of a shape that multiplies ``value``."""
    if not examples or value.dim() == 0 or value.shape[0] % examples:
        raise NotApplicable(
            f"the loss takes outputs of shape {tuple(value.shape)}: their rows are not those of "
            f"{examples} examples"
        )
    each = value.shape[0] // examples
    chosen = torch.zeros(examples, dtype=torch.bool, device="cpu")
    chosen[list(rows)] = True
    return chosen.repeat_interleave(each).view(-1, *[1] * (value.dim() - 1)).to(value.device)


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0][:200]
