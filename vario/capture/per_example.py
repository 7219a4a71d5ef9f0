"""Squared norm of each example's share of the gradient, from one ordinary backward.

The gradient of a batch is a sum of shares, one to an example. At the operation that reads a parameter
the share is a product of what the operation keeps and of the gradient that arrives there, so its norm
follows without forming it. Operations are found in the autograd graph, not by modules: functional
calls, tied and repeated weights are seen. Where the examples lie is followed from the loss
(``batch_axis``); a parameter with a use that is not understood is left out and named with the reason.

``check``: the share of one example is also computed by a backward of its rows alone, before the
user's backward. A parameter whose norm differs is left out too: rows that an operation regroups or
mixes are caught by this and by nothing else. It runs the graph (and hooks on it) once more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge

from vario.capture.batch_axis import Layout, layouts
from vario.capture.graph import bottom_up
from vario.capture.shares import Use, find_use

__all__ = ["ExampleGradients", "Probe"]

_WAY = frozenset({"TBackward0", "ToCopyBackward0"})  # between a parameter and the operation that reads it
_CLOSE = 1e-2  # of the largest norm: half precision differs by less, a wrong axis by more


@dataclass(slots=True)
class ExampleGradients:
    """Squared norms (examples,) of the shares of each parameter that is understood; the rest with why.

    ``batch_squares``: squared norm of the sum of the shares, of this backward alone, of every parameter.
    """

    examples: int
    squares: dict[str, Tensor] = field(default_factory=dict)
    batch_squares: dict[str, Tensor] = field(default_factory=dict)
    missed: dict[str, str] = field(default_factory=dict)
    checked: bool = False


class Probe:
    """Listens to one backward of ``loss``. Make it just before, ``close`` it after, whatever happens."""

    def __init__(
        self, loss: Tensor, names: Mapping[int, str], *, examples: int, check: int | None = None
    ) -> None:
        self._result = ExampleGradients(examples)
        self._removers: list[Callable[[], None]] = []
        self._uses: dict[str, list[Use]] = {}
        self._check = check
        self._expected: dict[str, Tensor] = {}
        order = bottom_up([loss.grad_fn])[::-1]
        roots = _roots(order, examples)
        if not roots:
            self._result.missed[""] = f"no output of {examples} examples was found at the loss"
            return
        found = layouts(order, roots, examples)
        parameters = {
            node: names.get(id(node.variable)) for node in order if type(node).__name__ == "AccumulateGrad"
        }
        listeners = self._find_uses(order, found, parameters)
        if check is not None:
            self._expected = _share_of(loss, roots, check % examples, parameters, examples)
        for node, name, use in listeners:  # only now: the check has run the graph by itself
            self._removers.append(node.register_prehook(self._hear(name, use)).remove)
        for node, known in parameters.items():
            if known is not None:
                keep = _keep_square(self._result.batch_squares, known)
                self._removers.append(node.register_prehook(keep).remove)

    def close(self) -> ExampleGradients:
        """Let go of the graph; what was found."""
        for remove in self._removers:
            remove()
        result, uses = self._result, self._uses
        self._removers, self._uses, expected = [], {}, self._expected
        self._expected = {}
        for name, several in uses.items():
            if name in result.missed:
                continue
            try:
                result.squares[name] = _squares(several, result.examples)
            except Exception as error:
                result.missed[name] = f"{type(error).__name__}: {error}"
        if expected:
            _compare(result, expected, (self._check or 0) % result.examples)
        return result

    def _find_uses(
        self,
        order: list[Any],
        found: Mapping[tuple[Any, int], Layout | None],
        parameters: Mapping[Any, str | None],
    ) -> list[tuple[Any, str, Use]]:
        """One ``Use`` for every operation that reads a parameter; a parameter with any other is missed."""
        listeners: list[tuple[Any, str, Use]] = []
        for node in order:
            if type(node).__name__ in _WAY and _at_end(node) in parameters:
                continue
            by_name: dict[str, list[tuple[int, bool]]] = {}
            for edge, (below, _) in enumerate(node.next_functions):
                name = parameters.get(_at_end(below))
                if name is not None:
                    by_name.setdefault(name, []).append((edge, _turned(below)))
            for name, edges in by_name.items():
                layout = found.get((node, 0))
                kind = type(node).__name__
                if layout is None:
                    self._result.missed.setdefault(name, f"the examples cannot be followed to {kind}")
                    continue
                for edge, turned in edges:
                    use = find_use(
                        node, kind, edge, turned=turned, layout=layout, examples=self._result.examples
                    )
                    if use is None:
                        self._result.missed.setdefault(name, f"{kind} is not understood")
                        continue
                    self._uses.setdefault(name, []).append(use)
                    listeners.append((node, name, use))
        return listeners

    def _hear(self, name: str, use: Use) -> Callable[[tuple[Tensor | None, ...]], None]:
        def hear(gradients: tuple[Tensor | None, ...]) -> None:
            try:
                if gradients[0] is not None:
                    use.gradient = gradients[0].detach()
                    if len(self._uses.get(name, ())) == 1:
                        use.settle()  # nothing of this operation needs to stay in memory
            except Exception as error:  # an observer must never fail the user's backward
                self._result.missed[name] = f"{type(error).__name__}: {error}"

        return hear


def _roots(order: list[Any], examples: int) -> dict[tuple[Any, int], Layout]:
    """Outputs whose rows the loss is taken over: what is read where a tensor becomes a number."""
    roots: dict[tuple[Any, int], Layout] = {}
    for node in order:
        if type(node).__name__ == "AccumulateGrad" or len(node._input_metadata[0].shape) > 0:
            continue
        for below, nr in node.next_functions:
            shape = () if below is None else tuple(below._input_metadata[nr].shape)
            if shape and type(below).__name__ != "AccumulateGrad" and shape[0] % examples == 0 and shape[0]:
                roots[below, nr] = Layout(0, 1, shape[0] // examples)
    return roots


def _share_of(
    loss: Tensor,
    roots: Mapping[tuple[Any, int], Layout],
    example: int,
    parameters: Mapping[Any, str | None],
    examples: int,
) -> dict[str, Tensor]:
    """Squared norm of one example's share of each parameter, by a backward of its rows alone."""
    edges = [GradientEdge(node, nr) for node, nr in roots]
    named = {name: node.variable for node, name in parameters.items() if name is not None}
    arriving = torch.autograd.grad(loss, edges, retain_graph=True, allow_unused=True)
    alone, at = [], []
    for edge, layout, gradient in zip(edges, roots.values(), arriving, strict=True):
        if gradient is not None:
            rows = slice(example * layout.inner, (example + 1) * layout.inner)
            masked = torch.zeros_like(gradient)
            masked[rows] = gradient[rows]
            alone.append(masked)
            at.append(edge)
    shares = torch.autograd.grad(at, list(named.values()), alone, retain_graph=True, allow_unused=True)
    del examples
    return {
        name: torch.zeros(()) if share is None else share.detach().float().square().sum()
        for name, share in zip(named, shares, strict=True)
    }


def _keep_square(squares: dict[str, Tensor], name: str) -> Callable[[tuple[Tensor | None, ...]], None]:
    def keep(gradients: tuple[Tensor | None, ...]) -> None:
        if gradients[0] is not None and not gradients[0].is_sparse:
            squares[name] = torch.linalg.vector_norm(gradients[0].detach().float()).square()

    return keep


def _squares(uses: list[Use], examples: int) -> Tensor:
    if len(uses) == 1:
        return uses[0].settle()
    # shares of one parameter from several uses add before they are squared
    found = []
    for example in range(examples):
        total = uses[0].share(example)
        for use in uses[1:]:
            total = total + use.share(example)
        found.append(total.square().sum())
    return torch.stack(found)


def _compare(result: ExampleGradients, expected: Mapping[str, Tensor], example: int) -> None:
    result.checked = True
    largest = max((float(square) for square in expected.values()), default=0.0)
    for name in list(result.squares):
        norms = float(result.squares[name][example]) ** 0.5, float(expected[name]) ** 0.5
        if not abs(norms[0] - norms[1]) <= _CLOSE * max(norms[1], 1e-3 * largest**0.5):
            del result.squares[name]
            result.missed[name] = (
                "a backward of one example alone gave another norm: its rows are regrouped or mixed"
            )


def _at_end(node: Any) -> Any:
    while node is not None and type(node).__name__ in _WAY:
        node = node.next_functions[0][0]
    return node


def _turned(node: Any) -> bool:
    """Whether a parameter is transposed on its way to the operation."""
    turns = 0
    while node is not None and type(node).__name__ in _WAY:
        turns += type(node).__name__ == "TBackward0"
        node = node.next_functions[0][0]
    return turns % 2 == 1
