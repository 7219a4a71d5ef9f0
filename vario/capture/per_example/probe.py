"""Squared norm of each example's share of the gradient, from one ordinary backward.

The gradient of a batch is a sum of shares, one to an example. At the operation that reads a parameter
the share is a product of what the operation keeps and of the gradient that arrives there, so its norm
follows without forming it. Operations are found in the autograd graph, not by modules: functional
calls, tied and repeated weights are seen. Where the examples lie is followed from the loss
(``followed``); a parameter with a use that is not understood is left out and named with the reason.

``check``: the share of one example is also carried down beside the user's backward (``masked``). A parameter
whose norm differs is left out too: rows that an operation mixes behind our back are caught by this and by
nothing else. It calls a part of the graph once more, so it is refused where that could be seen from outside
(``masked.unsafe``), and with it everything that would have needed it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from vario.capture.graph import bottom_up
from vario.capture.per_example.arriving import Arriving
from vario.capture.per_example.batch_axis import Examples, Layout, is_packed, kind_of
from vario.capture.per_example.chains import Chain, Chains
from vario.capture.per_example.followed import below_batch_norm, bent, find_roots, layouts
from vario.capture.per_example.found import ExampleGradients, exact, on_host, square
from vario.capture.per_example.masked import Alone, between, unsafe
from vario.capture.per_example.rivals import doubt
from vario.capture.per_example.shares import find_formula
from vario.capture.per_example.uses import Joint, Use, joint
from vario.capture.shards import is_whole

__all__ = ["Probe"]

_MIXED = "BatchNorm in train mode above it mixes the examples: none has a gradient of its own"
_CLOSE = 1e-2  # of the largest norm: half precision differs by less, a wrong axis by more


class Probe:
    """Listens to one backward of ``loss``. Make it just before, ``close`` it after, whatever happens.

    ``picked``: places in the batch of the examples to look at (all). ``check``: one of those places.
    ``time_first``: rows of the loss that are more than the examples have time outside, examples inside.
    ``order``: nodes of the graph, loss first, where known. ``pieces``: those of them at which gradients of
    whole parameters arrive that are parts of a longer one.
    ``spreads``: by parameter, what the sum over examples of squared entries is added to; made where missing.
    ``seconds``: what listening took so far.
    """

    def __init__(
        self,
        loss: Tensor,
        names: Mapping[int, str],
        *,
        examples: int,
        check: int | None = None,
        picked: Sequence[int] | None = None,
        products: bool = False,
        spreads: dict[str, Tensor] | None = None,
        time_first: bool = False,
        order: list[Any] | None = None,
        pieces: Mapping[Any, str] | None = None,
    ) -> None:
        self._result = ExampleGradients(examples, spreads={} if spreads is None else spreads)
        self._removers: list[Callable[[], None]] = []
        self._joint: dict[str, Joint] = {}
        self._alone: Alone | None = None
        self._seconds = 0.0
        self._examples = Examples(examples, None if picked is None else tuple(picked))
        self._check = check
        self._result.picked = self._examples.numbers()
        if order is None:
            order = bottom_up([loss.grad_fn])[::-1] if loss.grad_fn is not None else []
        leaves = self._leaves(order, names, pieces or {})
        under = Chains(order, leaves)
        roots, top = find_roots(loss, under, examples, time_first) if order and examples > 0 else ({}, set())
        if not roots:
            self._result.missed[""] = f"no output of {examples} examples was found at the loss"
            return
        found = layouts(order, roots, under, examples)
        if reason := doubt(roots, found, under, examples, time_first):
            self._result.missed[""] = reason
            return
        uses, even = self._find_uses(order, found, under, leaves, top)
        self._plan(uses, leaves, products, spreads)
        if check is not None:
            self._listen_alone(order, roots, even, leaves, top)
        by_node: dict[Any, list[Use]] = {}
        for use in uses:
            by_node.setdefault(use.node, []).append(use)
        for node, several in by_node.items():
            self._removers.append(node.register_prehook(self._hear(several)).remove)
        for node, known in leaves.items():
            if known is not None:
                self._removers.append(node.register_prehook(self._hear_leaf(known)).remove)

    def close(self) -> ExampleGradients:
        """Let go of the graph; what was found."""
        result, found, alone = self._result, self._joint, self._alone
        self.let_go()
        for name, one in found.items():
            if name in result.missed:
                continue
            try:
                result.squares[name] = one.squares()
                if one.products is not None:
                    result.products[name] = one.products
            except Exception as error:
                result.leave_out(name, f"{type(error).__name__}: {error}")
        if alone is not None:
            _compare(result, alone, self._examples.numbers().index(self._at()))
        return result

    @property
    def seconds(self) -> float:
        return self._seconds + (0.0 if self._alone is None else self._alone.seconds)

    def let_go(self) -> None:
        """Hear no more."""
        for remove in self._removers:
            remove()
        self._removers, self._joint = [], {}
        if self._alone is not None:
            self._alone.let_go()

    def _leaves(
        self, order: list[Any], names: Mapping[int, str], pieces: Mapping[Any, str]
    ) -> dict[Any, str | None]:
        leaves: dict[Any, str | None] = dict(pieces)
        for node in order:
            if _is_leaf(node):
                leaves[node] = name = names.get(id(node.variable))
                unread = "it has no values" if node.variable.is_meta else ""
                if not is_whole(node.variable):
                    unread = "it is a shard of a distributed tensor"
                if name is not None and unread:
                    self._result.missed[name], leaves[node] = unread, None
        return leaves

    def _at(self) -> int:
        numbers = self._examples.numbers()
        return self._check if self._check in numbers else numbers[(self._check or 0) % len(numbers)]

    def _find_uses(
        self,
        order: list[Any],
        found: Mapping[tuple[Any, int], Layout | None],
        under: Chains,
        leaves: Mapping[Any, str | None],
        top: Container[Any],
    ) -> tuple[list[Use], list[Any]]:
        """Every operation that reads parameters; and terms of the loss that no example is in."""
        uses: list[Use] = []
        even: list[Any] = []
        free = under.nodes
        mixed: set[Any] | None = None  # not looked for unless something is missed
        crooked = bent(order, top)
        for node in order:
            reads = [(e, below, nr) for e, (below, nr) in enumerate(node.next_functions) if below in free]
            if not reads:
                continue
            layout = found.get((node, 0))
            if layout is None and node in free and node not in top:
                continue
            at = None if layout is None else Arriving(layout, self._examples)
            packed = is_packed(node)
            for edge, below, number in reads:
                if found.get((below, number)) is not None or below in top:
                    continue
                chain = under.under(below)
                mine = {leaf: name for leaf in chain.leaves if (name := leaves[leaf]) is not None}
                if not mine:
                    continue
                use, reason = self._use(node, edge, at, chain, top, packed, below in crooked)
                if use is None:
                    mixed = below_batch_norm(order) if mixed is None else mixed
                    reason = _MIXED if node in mixed else reason
                    for name in mine.values():
                        self._result.leave_out(name, reason)
                    continue
                if use.node is below:
                    even.append(below)
                use.names, use.number = mine, number
                uses.append(use)
        return uses, even

    def _use(
        self,
        node: Any,
        edge: int,
        at: Arriving | None,
        chain: Chain,
        top: Container[Any],
        packed: bool,
        crooked: bool,
    ) -> tuple[Use | None, str]:
        kind = type(node).__name__
        if at is None:
            below, number = node.next_functions[edge]
            if node in top and not node._input_metadata[0].shape and not below._input_metadata[number].shape:
                if crooked:
                    return None, f"the loss is no plain sum of it: {kind}"
                return Use(below, None, chain, self._examples), ""  # a term of the loss, such as a penalty
            return None, f"the examples cannot be followed to {kind}"
        if packed:
            return None, f"what {kind} keeps is saved by a hook (checkpointing or offloading)"
        try:
            formula = find_formula(node, edge, at)
        except Exception as error:
            return None, f"{kind}: {type(error).__name__}: {error}"
        if formula is None:
            return None, f"{kind} is not understood"
        return Use(node, formula, chain, self._examples), ""

    def _plan(
        self,
        uses: list[Use],
        leaves: Mapping[Any, str | None],
        products: bool,
        spreads: dict[str, Tensor] | None,
    ) -> None:
        by_name: dict[str, list[Use]] = {}
        kinds = {name: leaf._input_metadata[0] for leaf, name in leaves.items() if name is not None}
        for use in uses:
            for name in use.names.values():
                by_name.setdefault(name, []).append(use)
        for name, mine in by_name.items():
            if name in self._result.missed:
                continue
            like = kinds[name]
            if spreads is not None and name not in spreads:
                spreads[name] = torch.zeros(like.shape, dtype=torch.float32, device=like.device)
            total = None if spreads is None else spreads[name]
            try:
                self._joint[name] = joint(mine, math.prod(like.shape), products=products, total=total)
            except ValueError as error:
                self._result.leave_out(name, str(error))

    def _listen_alone(
        self,
        order: list[Any],
        roots: Mapping[tuple[Any, int], Layout],
        even: list[Any],
        leaves: Mapping[Any, str | None],
        top: Iterable[Any],
    ) -> None:
        mine = {leaf: name for leaf, name in leaves.items() if name in self._joint}
        if not mine:
            return
        nodes = between(order, (*(node for node, _ in roots), *even), mine)
        if reason := unsafe(nodes):
            for name in list(self._joint):
                self._result.leave_out(name, f"not checked by a backward of one example: {reason}")
            self._joint = {}
            return
        example, count = self._at(), self._examples.count
        self._alone = Alone(nodes, top, roots, even, mine, example=example, examples=count)

    def _hear(self, uses: list[Use]) -> Callable[[tuple[Tensor | None, ...]], None]:
        def hear(gradients: tuple[Tensor | None, ...]) -> None:
            start, gradient = time.perf_counter(), gradients[0]
            try:
                if gradient is not None:
                    with exact(gradient):
                        for use in uses:
                            self._tell(use, gradients)
            except Exception as error:  # an observer must never fail the user's backward
                for use in uses:
                    self._give_up(use, error)
            self._seconds += time.perf_counter() - start

        return hear

    def _tell(self, use: Use, gradients: tuple[Tensor | None, ...]) -> None:
        told = {name: self._joint[name] for name in use.names.values() if name in self._joint}
        try:
            if told:
                use.hear(gradients, told)
        except Exception as error:
            self._give_up(use, error)

    def _give_up(self, use: Use, error: Exception) -> None:
        for name in use.names.values():
            self._joint.pop(name, None)
            self._result.leave_out(name, f"{type(error).__name__}: {error}")

    def _hear_leaf(self, name: str) -> Callable[[tuple[Tensor | None, ...]], None]:
        def hear(gradients: tuple[Tensor | None, ...]) -> None:
            start, gradient = time.perf_counter(), gradients[0]
            try:
                if gradient is not None:
                    with exact(gradient):
                        self._result.batch_squares[name] = square(gradient.detach())
            except Exception as error:
                self._result.leave_out(name, f"{type(error).__name__}: {error}")
            self._seconds += time.perf_counter() - start

        return hear


def _compare(result: ExampleGradients, check: Alone, place: int) -> None:
    expected, names = check.close(), list(result.squares)
    if check.failed:
        for name in names:
            result.leave_out(name, f"not checked by a backward of one example: {check.failed}")
        return
    mine = on_host([squares[place] for squares in result.squares.values()])
    sums = on_host([squares.sum() for squares in result.squares.values()])
    alone = dict(zip(expected, on_host(list(expected.values())), strict=True))
    if not all(map(math.isfinite, (*sums, *alone.values()))):
        result.finite = False
        for name in names:
            result.leave_out(name, "squares of its gradient are not finite, so it could not be checked")
        return
    result.checked = True
    least = 1e-3 * max(alone.values(), default=0.0) ** 0.5
    for name, squared in zip(names, mine, strict=True):
        wanted = alone[name] ** 0.5
        if not abs(squared**0.5 - wanted) <= _CLOSE * max(wanted, least):
            result.leave_out(
                name,
                "a backward of one example alone gave another norm: its rows are regrouped or mixed, or a "
                "hook changes the gradient",
            )


def _is_leaf(node: Any) -> bool:
    return kind_of(node) == "AccumulateGrad"
