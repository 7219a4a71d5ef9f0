"""Where the examples lie in the input of an operation that picks, joins, repeats or writes rows.

What such an operation does with them is in its indices or its strides, or is asked of its own backward.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from vario.capture.per_example.batch_axis import Layout, Shape, dim_of, is_packed, kind_of, owned

__all__ = ["PICKS", "asked", "index", "joined", "picked", "repeated"]

PICKS = ("Index", "IndexSelect")
_MASKS = (torch.bool, torch.uint8)


def picked(node: Any) -> dict[int, Tensor]:
    """The numbers that an index picks, by dimension of what it reads."""
    if kind_of(node) == "IndexSelect":
        return {dim_of(node._saved_dim, len(node._saved_self_sym_sizes)): node._saved_index}
    picks: dict[int, Tensor] = {}
    dim = 0
    for index in node._saved_indices:
        parts = (index,) if index is None or index.dtype not in _MASKS else index.nonzero(as_tuple=True)
        picks.update({dim + k: part for k, part in enumerate(parts) if part is not None})
        dim += len(parts)
    return picks


def index(node: Any, at: Layout, out: Shape, shape: Shape, edge: int, examples: int) -> Layout | None:
    """Entries are picked by tensors. Other dimensions stay; what is picked is of whom it is picked for."""
    del out, edge
    if is_packed(node):
        return None
    picks = picked(node)
    first, kept = min(picks), [dim for dim in range(len(shape)) if dim not in picks]
    together = max(picks) - first + 1 == len(picks)
    before, (mine, *_) = first if together else 0, torch.broadcast_tensors(*picks.values())
    if len(at.rows) == 1 == mine.dim() == len(mine):  # all of it is of one, whichever dimension tells
        at = at._replace(dim=before)
    if at.dim < before:
        return at
    if at.dim >= before + mine.dim():
        return at._replace(dim=kept[at.dim - mine.dim()])
    if mine.is_meta:
        return None
    mine, owners = mine.movedim(at.dim - before, -1).to("cpu"), at.owners(examples)
    whose = torch.full((shape[first],), -1, device="cpu")
    owners = owners.expand(mine.shape).flatten()
    flat = (mine % shape[first]).flatten()[owners >= 0]
    owners = owners[owners >= 0]
    whose[flat] = owners
    return owned(first, whose, examples) if torch.equal(whose[flat], owners) else None


def joined(node: Any, at: Layout, out: Shape, shape: Shape, edge: int, examples: int) -> Layout | None:
    """Put behind one another: along the examples too, where each part has all of them, as of one time."""
    if at.dim != dim_of(node._saved_dim, len(out)):
        return at
    del out
    once = examples * at.inner
    parts = [None if node is None else node._input_metadata[nr].shape for node, nr in node.next_functions]
    if at.ragged or any(part is None or part[at.dim] % once for part in parts):
        if any(part is None for part in parts[:edge]):
            return None  # how long it is is not known
        start = sum(part[at.dim] for part in parts[:edge] if part is not None)
        return owned(at.dim, at.owners(examples)[start : start + shape[at.dim]], examples)
    return at._replace(outer=shape[at.dim] // once)


def asked(node: Any, at: Layout, out: Shape, shape: Shape, edge: int, examples: int) -> Layout | None:
    """Of other strides of one memory, or a part that is written into, it is not told what came from where.

    So its backward is given the number of each example at its entries. An entry that goes to several places
    has their sum, so ones are sent as well, and the sum is that number as often as there are ones.
    """
    if edge == 0 and len(node.next_functions) > 1:
        return at  # what is written into
    if at.ragged:
        return None
    known = node._input_metadata[0]
    numbers = torch.arange(1, examples + 1, device=known.device, dtype=known.dtype)
    marked = numbers.repeat_interleave(at.inner).repeat(at.outer)
    marked = marked.view(-1, *[1] * (len(out) - at.dim - 1)).expand(out).contiguous()
    with torch.no_grad():
        answers = node(marked), node(torch.ones_like(marked))
    sums, counts = (answer[edge] if isinstance(answer, tuple) else answer for answer in answers)
    if sums is None or counts is None or sums.shape != torch.Size(shape):
        return None
    for dim, rows in enumerate(shape):
        if rows and rows % examples == 0:
            expected = counts.movedim(dim, -1) * numbers.repeat_interleave(rows // examples)
            if bool((sums.movedim(dim, -1) == expected).all()):
                return Layout(dim, 1, rows // examples)
    return None


def repeated(node: Any, at: Layout, out: Shape, shape: Shape, edge: int, examples: int) -> Layout | None:
    """As often as they tell, along each dimension."""
    del edge, examples
    dim = at.dim - (len(out) - len(shape))
    return at._replace(dim=dim) if dim >= 0 and node._saved_repeats[at.dim] == 1 else None
