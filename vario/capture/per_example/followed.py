"""The examples of a batch, followed through the graph from the loss, whose rows belong to examples, down."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from vario.capture.per_example.axis_moves import PICKS, picked
from vario.capture.per_example.axis_rows import SPLITS, parted
from vario.capture.per_example.axis_rules import below as layout_below
from vario.capture.per_example.axis_rules import is_elementwise, works_along
from vario.capture.per_example.batch_axis import (
    BATCH_NORMS,
    Layout,
    agreed,
    dim_of,
    kind_of,
    passes,
)
from vario.capture.per_example.chains import Chains

__all__ = ["Edge", "below_batch_norm", "bent", "down", "find_roots", "layouts", "reads"]

Edge = tuple[Any, int]  # an output of the graph: its node, and its number among those of the node


def find_roots(
    loss: Tensor, under: Chains, examples: int, time_first: bool
) -> tuple[dict[Edge, Layout], set[Any]]:
    """Outputs whose rows the loss is taken over, where a tensor becomes a number or, above all layers, is
    added up over its rows; and all nodes above them.

    Nothing below such rows is looked at: a number in there is made of several examples, and mixes them.
    """
    roots: dict[Edge, Layout] = {}
    todo: list[tuple[Any, bool]] = [(loss.grad_fn, True)]
    seen: set[Any] = set()
    while todo:
        node, above = todo.pop()
        if node in seen:
            continue
        seen.add(node)
        shape = node._input_metadata[0].shape
        read = [edge for edge in node.next_functions if edge[0] is not None]
        rest = [edge for edge in read if not under.is_bare(edge[0], examples)]
        above = above and (not shape or len(rest) == len(read))
        ends = not shape or (above and _adds_rows(node))
        for edge in rest:
            layout = _rows(edge, under, examples, time_first) if ends else None
            if layout is not None:
                roots[edge] = layout
                continue
            for picks in _picking(edge, under) if ends else ():
                layout = _rows(picks.next_functions[0], under, examples, time_first)
                if layout is not None:
                    roots[picks.next_functions[0]] = layout
                    seen.add(picks)
            todo.append((edge[0], above))
    return roots, seen


def _adds_rows(node: Any) -> bool:
    """Whether it is a sum or mean over the first dimension, above all layers."""
    if kind_of(node) not in ("Mean", "Sum"):
        return False
    below, number = node.next_functions[0]
    dims = getattr(node, "_saved_dim", ())
    return 0 in {dim_of(dim, len(below._input_metadata[number].shape)) for dim in dims}


def _rows(edge: Edge, under: Chains, examples: int, time_first: bool) -> Layout | None:
    """How its rows belong to the examples, in order; None where they do not."""
    shape = edge[0]._input_metadata[edge[1]].shape
    if not shape or not shape[0] or shape[0] % examples:
        return None
    each = shape[0] // examples
    layout = Layout(0, each, 1) if time_first else Layout(0, 1, each)
    return layout if _holds(edge, layout, under, examples) else None


def _holds(edge: Edge, layout: Layout, under: Chains, examples: int) -> bool:
    """Whether an axis of rows comes down to one of examples alone; of one row each, whether it is never lost.

    As many rows as a multiple of the examples need not be in their order: some may have been picked, or all
    repeated.
    """
    single = layout.outer == layout.inner == 1  # one row each, in some order, if there is none twice
    lost = False
    for node, at, there in down(edge, layout, under, examples) if not single or under.picks else ():
        if not single and at.outer == at.inner == 1:
            return True
        lost = lost or (there is None and not (single and _orders(node, at, examples)))
    return single and not lost


def _orders(node: Any, at: Layout, examples: int) -> bool:
    """Whether it is no pick of rows, or one that has each example once."""
    if kind_of(node) not in PICKS or at.dim != 0:
        return True
    first, *_ = torch.broadcast_tensors(*picked(node).values())
    rows = node.next_functions[0][0]._input_metadata[node.next_functions[0][1]].shape[min(picked(node))]
    return rows % examples == 0 and len((first // (rows // examples)).unique()) == examples


def _picking(edge: Edge, under: Chains) -> list[Any]:
    """Operations that pick these rows, whichever they are, out of more: as for a loss of masked tokens."""
    shape = edge[0]._input_metadata[edge[1]].shape
    if not shape or not shape[0]:
        return []
    rows = down(edge, Layout(0, 1, 1), under, shape[0])
    return [node for node, at, there in rows if there is None and kind_of(node) in PICKS and at.dim == 0]


def down(
    edge: Edge, layout: Layout, under: Chains, examples: int
) -> Iterator[tuple[Any, Layout, Layout | None]]:
    """Each node that the axis comes to, where it is there, and where in what the node reads (None: lost)."""
    todo, seen = [(edge, layout)], set[Any]()
    while todo:
        (node, number), at = todo.pop()
        if node in seen:
            continue
        seen.add(node)
        yield node, at, at
        if works_along(node, at, examples):
            yield node, at, None
        for read, there in reads(node, number, at, under, examples):
            if there is not None:
                todo.append((read, there))
            elif read[0] not in under.nodes:
                if not passes(node):
                    yield node, at, None
            elif not is_elementwise(node) and not under.is_bare(read[0], examples):
                yield node, at, None


def reads(
    node: Any, number: int, at: Layout, under: Chains, examples: int
) -> Iterator[tuple[Edge, Layout | None]]:
    """All that a node reads, and where in it the axis lies that is there in output ``number``."""
    out = node._input_metadata[number].shape
    for place, (below, nr) in enumerate(node.next_functions):
        if below is None:
            continue
        if passes(node):
            yield (below, nr), at if place == number else None
        else:
            shape = below._input_metadata[nr].shape
            table = under.is_bare(below, examples)
            yield (below, nr), layout_below(node, at, out, shape, place, examples, table=table)


def layouts(
    order: Iterable[Any], roots: Mapping[Any, Layout], under: Chains, examples: int
) -> dict[tuple[Any, int], Layout | None]:
    """Layout of output ``nr`` of ``node`` for each (node, nr); None where it is lost.

    ``order``: all nodes, each before those that it reads from; ``roots``: the outputs where it is known.
    """
    found: dict[tuple[Any, int], Layout | None] = dict(roots)
    outputs: dict[Any, dict[int, Layout | None]] = {}
    for (node, nr), root in roots.items():
        outputs.setdefault(node, {})[nr] = root
    for node in order:
        mine = outputs.get(node)
        if not mine:
            continue
        for edge, there in _read(node, mine, under, examples):
            _note(edge, there, found, outputs, examples)
    return found


def _read(
    node: Any, mine: Mapping[int, Layout | None], under: Chains, examples: int
) -> Iterator[tuple[Edge, Layout | None]]:
    """All that a node reads, and where in it the axis lies that is there in these outputs."""
    if passes(node):  # each output is the input of its number
        yield from ((edge, mine.get(number)) for number, edge in enumerate(node.next_functions))
    elif kind_of(node) in SPLITS and node.next_functions[0][0] is not None:
        yield node.next_functions[0], parted(node, mine, examples)
    else:
        number, at = next(iter(mine.items()))
        if at is None or any(other != at for other in mine.values()):
            yield from ((edge, None) for edge in node.next_functions)
        else:
            yield from reads(node, number, at, under, examples)


def _note(
    edge: tuple[Any, int],
    there: Layout | None,
    found: dict[tuple[Any, int], Layout | None],
    outputs: dict[Any, dict[int, Layout | None]],
    examples: int,
) -> None:
    """What one of its readers tells of an output: where another tells otherwise, nothing is known."""
    below, number = edge
    if below is None or kind_of(below) == "AccumulateGrad":
        return
    found[edge] = agreed(found[edge], there, examples) if edge in found else there
    outputs.setdefault(below, {})[number] = found[edge]


def bent(order: Iterable[Any], top: Container[Any]) -> set[Any]:
    """What the loss is no plain sum of, of that which the nodes at its ``top`` read."""
    found: set[Any] = set()
    for node in order:
        if node not in top:
            continue
        reads = [below for below, _ in node.next_functions if below is not None]
        kind = kind_of(node)
        scaled = kind == "Mul" or (kind == "Div" and node.next_functions[0][0] is not None)
        if node in found or not ((scaled and len(reads) == 1) or kind in _SUMS or passes(node)):
            found.update(reads)
    return found


_SUMS = frozenset(
    """Add Alias Cat Clone Expand Mean Neg Permute ReshapeAlias Rsub Select Slice Squeeze Stack Sub Sum T
    ToCopy Transpose Unbind UnsafeView Unsqueeze View""".split()
)


def below_batch_norm(order: Iterable[Any]) -> set[Any]:
    """What feeds a BatchNorm in train mode; ``order`` as for ``layouts``."""
    below: set[Any] = set()
    for node in order:
        if node in below:
            below.update(under for under, _ in node.next_functions if under is not None)
        elif kind_of(node) in BATCH_NORMS and node._saved_training and node.next_functions[0][0]:
            below.add(node.next_functions[0][0])
    return below
