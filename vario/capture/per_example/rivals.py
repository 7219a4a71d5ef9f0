"""Whether what was found at the loss may be another dimension, as long as the batch.

A loss that is averaged over the examples first has rows of times or of features left, and these may be as
many. A dimension of features ends at a parameter; of two others the examples are the one that is never lost
on its way down, or, if neither is, that which lies outermost in what the layers at the bottom were given.
"""

from __future__ import annotations

import collections
from collections.abc import Iterator, Mapping
from typing import Any

from vario.capture.per_example.axis_rules import of_parameter
from vario.capture.per_example.batch_axis import BATCH_NORMS, Layout, Shape, kind_of
from vario.capture.per_example.chains import Chains
from vario.capture.per_example.followed import Edge, down, reads

__all__ = ["doubt"]

_FEATURES = "as many rows of the loss as there are examples are a dimension of a parameter"
_SEVERAL = "two dimensions are as long as the batch, and which the examples are is not told"
_GROUPS = "as many rows of the loss as there are examples are groups of them"


def doubt(
    roots: Mapping[Edge, Layout],
    found: Mapping[Edge, Layout | None],
    under: Chains,
    examples: int,
    time_first: bool,
) -> str:
    """Why the rows of the loss may not be the examples; "" where they are. ``found``: what follows if so."""
    grouped = False
    judged: set[tuple[Edge, Layout]] = set()
    mine: tuple[str, dict[Any, Layout]] | None = None  # not looked for unless there is another
    for edge, at in _near(roots, under, examples) if examples > 1 else ():
        grouped = grouped or at.ragged
        node, shape = edge[0], edge[0]._input_metadata[edge[1]].shape
        if under.is_bare(node, examples) and _end({edge: at}, under, examples, set())[0] == "parameter":
            return _FEATURES
        if of_parameter(node, at, shape):
            return _FEATURES
        for other in _as_long(at, shape, examples):
            if (edge, other) in judged:
                continue
            end, bottom = _end({edge: other}, under, examples, judged)
            if end == "parameter":
                continue
            mine = mine or _end(roots, under, examples, set())
            if mine[0] != "kept" or (end == "kept" and not _outside(mine[1], bottom, time_first)):
                return _SEVERAL
    return _GROUPS if grouped and _crowded(found, under, examples) else ""


def _crowded(found: Mapping[Edge, Layout | None], under: Chains, examples: int) -> bool:
    """Whether an example has more than its share of the rows that come in: then it is a group of them."""
    for (node, _), at in found.items():
        if at is None or not at.rows or len(at.rows) % examples:
            continue
        if all(below is None or under.is_bare(below, examples) for below, _ in node.next_functions):
            counts = collections.Counter(at.rows)
            if any(counts[owner] > len(at.rows) // examples for owner in range(examples)):
                return True
    return False


def _near(roots: Mapping[Edge, Layout], under: Chains, examples: int) -> Iterator[tuple[Edge, Layout]]:
    """From the loss to the first layers, and what they read of parameters.

    What was averaged away is there in all that lies below; what is as long further down is a layer's own.
    """
    todo, seen = list(roots.items()), set[Edge]()
    while todo:
        edge, at = todo.pop()
        if edge in seen:
            continue
        seen.add(edge)
        yield edge, at
        node, number = edge
        if under.is_bare(node, examples):
            continue
        layer = any(under.is_bare(below, examples) for below, _ in node.next_functions)
        for read, there in reads(node, number, at, under, examples):
            if there is not None and (not layer or under.is_bare(read[0], examples)):
                todo.append((read, there))


def _as_long(at: Layout, shape: Shape, examples: int) -> Iterator[Layout]:
    """Where else there are as many entries in a row."""
    for dim, size in enumerate(shape):
        if size == examples and dim != at.dim:
            yield Layout(dim, 1, 1)
    if at.outer == examples:
        yield Layout(at.dim, 1, examples * at.inner)
    if at.inner == examples:
        yield Layout(at.dim, at.outer * examples, 1)


def _end(
    starts: Mapping[Edge, Layout], under: Chains, examples: int, passed: set[tuple[Edge, Layout]]
) -> tuple[str, dict[Any, Layout]]:
    """Whether an axis is that of a "parameter", is "lost" on its way, or "kept" all the way; and where it
    lies in what has nothing but parameters below. ``passed``: where it came by is added."""
    lost, bottom = False, dict[Any, Layout]()
    for edge, layout in starts.items():
        for node, at, there in down(edge, layout, under, examples):
            passed.update(((node, number), at) for number in range(len(node._input_metadata)))
            if kind_of(node) == "AccumulateGrad" or of_parameter(node, at, node._input_metadata[0].shape):
                return "parameter", {}
            lost = lost or (there is None and not (kind_of(node) in BATCH_NORMS and at == Layout(0, 1, 1)))
            if all(below is None or under.is_bare(below, examples) for below, _ in node.next_functions):
                bottom[node] = at
    return "lost" if lost else "kept", bottom


def _outside(mine: Mapping[Any, Layout], other: Mapping[Any, Layout], time_first: bool) -> bool:
    """Whether the one lies outside the other, wherever both are; inside where time comes first."""
    both = mine.keys() & other.keys()
    outer = [(mine[n].dim, -mine[n].inner) < (other[n].dim, -other[n].inner) for n in both]
    return bool(both) and all(one != time_first for one in outer)
