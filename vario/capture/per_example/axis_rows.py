"""Where rows of no fixed number to an example come from: what routes them to experts, packs or cuts them.

The example of every row is known from below the place where they are put together again. Nothing comes to
a row that is not taken from there, so of such a row nothing need be known.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from vario.capture.per_example.batch_axis import Layout, Shape, agreed, dim_of, is_packed, kind_of, owned

__all__ = ["SPLITS", "cut", "gathered", "parted", "put", "regrouped", "sent", "summed"]

SPLITS = ("Split", "SplitWithSizes", "UnsafeSplit", "UnsafeSplitWithSizes")
_MOST = 1 << 24  # entries of a matrix that are looked through
_MASKS = (torch.bool, torch.uint8)


def regrouped(at: Layout, out: Shape, shape: Shape, examples: int) -> Layout | None:
    """Entries in the same order: as many rows, or several that were one, or one that was several."""
    owners, behind, before = at.owners(examples), math.prod(out[at.dim + 1 :]), math.prod(out[: at.dim])
    for dim, rows in enumerate(shape):
        below = math.prod(shape[dim + 1 :])
        if math.prod(shape[:dim]) != before:
            continue
        if rows == len(owners) and below == behind:
            return at._replace(dim=dim)
        if not rows or not len(owners):
            continue
        if rows % len(owners) == 0 and behind == below * (rows // len(owners)):
            return owned(dim, owners.repeat_interleave(rows // len(owners)), examples)
        if len(owners) % rows == 0 and below == behind * (len(owners) // rows):
            several = owners.view(rows, -1)
            most = several.amax(1)
            if bool(((several == most[:, None]) | (several < 0)).all()):
                return owned(dim, most, examples)
    return None


def cut(node: Any, at: Layout, shape: Shape, examples: int) -> Layout | None:
    """Some rows one after the other."""
    rows = torch.arange(shape[at.dim], device="cpu")
    start, end = (_signed(n) for n in (node._saved_start, node._saved_end))
    return _placed(at, rows[start : end : node._saved_step], shape[at.dim], examples)


def parted(node: Any, mine: Mapping[int, Layout | None], examples: int) -> Layout | None:
    """All rows, from the parts that they were split into, of which some may not be used."""
    found: Layout | None = None
    below, out = node.next_functions[0]
    shape = below._input_metadata[out].shape
    for number, at in mine.items():
        if at is None:
            return None
        if at.dim != dim_of(node._saved_dim, len(shape)):
            there: Layout | None = at
        else:
            size = getattr(node, "_saved_split_size", None)
            sizes = node._saved_split_sizes if size is None else (size,) * number
            rows = torch.arange(at.length(examples), device="cpu") + sum(sizes[:number])
            there = _placed(at, rows, shape[at.dim], examples)
        found = there if found is None else agreed(found, there, examples)
        if found is None:
            return None
    return found


def gathered(node: Any, at: Layout, out: Shape, shape: Shape, edge: int, examples: int) -> Layout | None:
    """Rows are taken by number, all of a row together."""
    del out, edge
    if at.dim != dim_of(node._saved_dim, len(shape)):
        return at
    index = _numbers(node, at.dim)
    return None if index is None else _placed(at, index, shape[at.dim], examples)


def sent(node: Any, at: Layout, shape: Shape, examples: int) -> Layout | None:
    """What is added at rows, or put in their place, is of whom the row is."""
    index = _numbers(node, at.dim)
    if index is None or len(index) != shape[at.dim]:
        return None
    return owned(at.dim, at.owners(examples)[index], examples)


def _numbers(node: Any, dim: int) -> Tensor | None:
    """Those of rows that an operation keeps; None where they are not those of whole rows."""
    if is_packed(node) or node._saved_index.is_meta:
        return None
    index: Tensor = node._saved_index.to("cpu")
    if index.dim() < 2:
        return index.reshape(-1)
    index = index.movedim(dim, 0).flatten(1)
    return index[:, 0] if bool((index == index[:, :1]).all()) else None


def put(node: Any, at: Layout, out: Shape, shape: Shape, edge: int, examples: int) -> Layout | None:
    """Values are put where an index tells; what they are put into keeps its own."""
    if edge == 0:
        return at
    if is_packed(node):
        return None
    picks: list[Tensor] = []
    for index in node._saved_indices:
        if index is None or index.is_meta:
            return None  # behind a whole dimension
        picks.extend(index.nonzero(as_tuple=True) if index.dtype in _MASKS else (index,))
    if at.dim >= len(picks) or len({pick.shape for pick in picks}) != 1 or picks[0].dim() != 1:
        return None
    mine = picks[at.dim].to("cpu") % out[at.dim]
    return owned(0, at.owners(examples)[mine], examples) if shape[0] == len(mine) else None


def summed(node: Any, at: Layout, shape: Shape, edge: int, examples: int) -> Layout | None:
    """A product that sends rows, as one with a matrix that has a single one in each of its columns."""
    if is_packed(node):
        return None
    kind = kind_of(node)
    names = {"Mm": ("_saved_mat2", "_saved_self"), "Addmm": ("_saved_mat2", "_saved_mat1")}
    names["Bmm"] = names["Mm"]
    other = getattr(node, names[kind][edge], None) if kind in names else None
    if other is None or other.is_meta or other.numel() > _MOST or (other.dim() == 3 and other.shape[0] > 1):
        return None
    there = (other.detach() != 0).to("cpu").view(other.shape[-2:])
    there = there if edge == 1 else there.T  # rows of the output, by what is summed over
    if not len(there):
        return owned(len(shape) - 1 - edge, torch.full((there.shape[1],), -1, device="cpu"), examples)
    owners = at.owners(examples)[:, None].expand(there.shape)
    there = there & (owners >= 0)
    last = torch.where(there, owners, -1).amax(0)
    first = torch.where(there, owners, examples).amin(0)
    return (
        owned(len(shape) - 1 - edge, last, examples) if bool(((first == last) | (last < 0)).all()) else None
    )


def _placed(at: Layout, places: Tensor, length: int, examples: int) -> Layout | None:
    """The layout of what these rows were taken from; None where one was taken for several examples."""
    owners = at.owners(examples)
    places, owners = places[owners >= 0], owners[owners >= 0]
    whose = torch.full((length,), -1, device="cpu")
    whose[places] = owners
    return owned(at.dim, whose, examples) if torch.equal(whose[places], owners) else None


def _signed(number: int) -> int:
    return number - (1 << 64) if number >= 1 << 63 else number
