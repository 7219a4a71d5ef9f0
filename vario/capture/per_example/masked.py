"""The share of one example, carried down beside the user's backward, to check what was derived for it.

At the loss all rows of the gradient but its own are set to zero; from there each operation's backward is
called once more, with that, just before the user's own comes to it. So weights that are put together for a
pass are there, and no hook of anybody's is called, for those belong to the pass and not to the operation.
Refused is what would call somebody's code all the same: functions written in Python, packed tensors.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Container, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from vario.capture.per_example.batch_axis import Layout, is_packed, kind_of, only, passes
from vario.capture.per_example.found import as_read, square, unseen

__all__ = ["Alone", "between", "unsafe"]

Gradients = tuple[Tensor | None, ...]


def between(order: list[Any], tops: Iterable[Any], leaves: Container[Any]) -> set[Any]:
    """Nodes on a way from one of the tops to a leaf, both among them; ``order`` has the loss first."""
    under, leading = set(tops), set[Any]()
    for node in order:
        if node in under and node not in leaves:
            under.update(below for below, _ in node.next_functions)
    for node in reversed(order):
        if node in leaves or any(below in leading for below, _ in node.next_functions):
            leading.add(node)
    return under & leading


def unsafe(nodes: Iterable[Any]) -> str:
    """Why one of these operations must not be called twice; "" where all may."""
    for node in nodes:
        if kind_of(node) == "AccumulateGrad":
            if node.variable._backward_hooks:
                return "a parameter has a hook"
        elif isinstance(node, torch.autograd.function.FunctionCtx):
            if not passes(node):
                return f"{type(node).__name__} is written in Python"
        elif is_packed(node):
            return "tensors are saved by hooks"
    return ""


class Alone:
    """Listens to one backward. ``close`` gives squared norms by leaf; terms of the loss without examples
    (``even``) are the example's to one part in n."""

    def __init__(
        self,
        nodes: set[Any],
        top: Iterable[Any],
        roots: Mapping[tuple[Any, int], Layout],
        even: Iterable[Any],
        leaves: Mapping[Any, str],
        *,
        example: int,
        examples: int,
    ) -> None:
        self.seconds = 0.0
        self.failed = ""
        self._example, self._examples = example, examples
        self._nodes, self._roots, self._even, self._leaves = nodes, roots, frozenset(even), leaves
        self._squares: dict[str, Tensor] = {}
        self._coming: dict[tuple[Any, int], Tensor] = {}
        self._top = {n for n in top if any(e in roots or e[0] in self._even for e in n.next_functions)}
        begin = [node.register_hook(self._guarded(self._begin, node)) for node in self._top]
        come = [node.register_prehook(self._guarded(self._come, node)) for node in nodes]
        self._removers: list[Callable[[], None]] = [handle.remove for handle in (*begin, *come)]

    def close(self) -> dict[str, Tensor]:
        """Let go of the graph; squared norms. Nothing of a parameter that the example has no part in."""
        self.let_go()
        return {
            name: self._squares.get(name, torch.zeros((), device="cpu")) for name in self._leaves.values()
        }

    def let_go(self) -> None:
        """Hear no more."""
        for remove in self._removers:
            remove()
        self._removers, self._coming = [], {}

    def _guarded(self, act: Callable[[Any, Gradients], None], node: Any) -> Callable[..., None]:
        def hear(gradients: Gradients, *_: Gradients) -> None:
            start = time.perf_counter()
            if not self.failed:
                try:
                    with unseen():
                        act(node, gradients)
                except Exception as error:  # an observer must never fail the user's backward
                    self.failed, self._coming = f"{type(error).__name__}: {error}", {}
            self.seconds += time.perf_counter() - start

        return hear

    def _begin(self, node: Any, found: Gradients) -> None:
        """The loss has been taken apart into rows."""
        for edge, value in zip(node.next_functions, found, strict=True):
            if value is None or edge[0] not in self._nodes:
                continue
            if edge in self._roots:
                self._send(edge, only(self._example, value, self._roots[edge]))
            elif edge[0] in self._even:
                self._send(edge, value / self._examples)

    def _come(self, node: Any, _: Gradients) -> None:
        """The user's backward has come to this node, and so has all that leads to it."""
        known = node._input_metadata
        given = [self._coming.pop((node, number), None) for number in range(len(known))]
        if all(value is None for value in given):
            return
        if node in self._leaves:
            (share,) = (value for value in given if value is not None)
            self._squares[self._leaves[node]] = square(share.to_dense() if share.is_sparse else share).float()
            return
        answer = given if passes(node) else node(*given)
        answers = answer if isinstance(answer, (tuple, list)) else (answer,)
        for edge, value in zip(node.next_functions, answers, strict=True):
            begun = node in self._top and (edge in self._roots or edge[0] in self._even)
            if value is not None and edge[0] in self._nodes and not begun:
                self._send(edge, value)

    def _send(self, edge: tuple[Any, int], value: Tensor) -> None:
        value = as_read(value, edge)
        self._coming[edge] = self._coming[edge] + value if edge in self._coming else value
