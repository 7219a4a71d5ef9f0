"""The whole weights that a sharded model puts together for a pass, each under the name of what is cut.

Between forward and backward of a layer every process has all of its weights, and autograd has them for its
leaves: gradients of this process's own examples arrive there, before they are averaged and cut. So single
examples are heard as without shards, and nothing is sent for it. Where a model is shared in another way
(tensor parallel, gradients that are summed) it is refused with the reason.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from vario.capture import shards
from vario.capture.per_example.batch_axis import kind_of
from vario.capture.per_example.found import ExampleGradients, square, sum_of

__all__ = ["Wholes", "find", "squares"]

_Piece = tuple[str, str]  # its name, and that of the flat parameter where the optimizer holds no other

_ELSE = "the parameters are shards of another kind than fully_shard and FullyShardedDataParallel make"
_TWICE = "a layer is called twice, and its weights are put together anew for each call"
_AVERAGED = "gradients of the processes are not averaged but put together as the script says"


@dataclass(slots=True)
class Wholes:
    """``names``: of leaves, by the id of the tensor. ``pieces``: nodes of the graph at which the gradient of
    a piece of a flat parameter arrives; ``parts``: that parameter, where the optimizer holds no other."""

    names: dict[int, str]
    pieces: dict[Any, str] = field(default_factory=dict)
    parts: dict[str, str] = field(default_factory=dict)

    def join(self, found: ExampleGradients) -> None:
        """Pieces of one flat parameter have no entry in common: their squares and products add up."""
        for flat in dict.fromkeys(self.parts.values()):
            mine = [piece for piece, whole in self.parts.items() if whole == flat]
            for piece in mine:
                if piece in found.missed:
                    found.leave_out(flat, f"{piece}: {found.missed.pop(piece)}")
            for values in (found.squares, found.products, found.batch_squares):
                here = [value for piece in mine if (value := values.pop(piece, None)) is not None]
                if here and (flat not in found.missed or values is found.batch_squares):
                    values[flat] = sum_of([here[0].clone(), *here[1:]])

    def joined(self, squares: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The same of one number to a piece."""
        found: dict[str, Tensor] = {}
        for name, value in squares.items():
            whole = self.parts.get(name, name)
            found[whole] = found[whole] + value if whole in found else value
        return found


def find(order: list[Any], params: Sequence[Tensor], names: Sequence[str], model: nn.Module | None) -> Wholes:
    """Raises ValueError with the reason where leaves of the graph are not known for the optimizer's."""
    known = Wholes({id(p): name for p, name in zip(params, names, strict=True)})
    flats: dict[int, list[_Piece]] = {}
    for module in model.modules() if model is not None else ():
        if getattr(module, "_comm_hook", None) is not None:
            raise ValueError(_AVERAGED)
        flat = getattr(getattr(module, "_handle", None), "flat_param", None)
        if flat is not None:
            flats[id(flat)] = _pieces_of(flat, known.names)
        for group in _groups_of(module):
            _name_wholes(group, known.names)
    splits: dict[Any, list[_Piece]] = {}
    for node in reversed(order):
        for below, number in node.next_functions:
            if below in splits:
                _note(known, node, *splits[below][number])
            elif id(getattr(below, "variable", None)) in flats:
                splits[node] = flats[id(below.variable)]
    strange = any(kind_of(split) != "SplitWithSizes" for split in splits)
    leaves = [getattr(node, "variable", None) for node in order]
    if strange or not all(leaf is None or shards.is_whole(leaf) for leaf in leaves):
        raise ValueError(_ELSE)
    return known


def _name_wholes(group: Any, names: dict[int, str]) -> None:
    """What `fully_shard` puts together is named as what it cut."""
    if getattr(group, "gradient_divide_factor", None) or getattr(group, "_all_reduce_hook", None):
        raise ValueError(_AVERAGED)
    for one in group.fsdp_params:
        name, whole = names.get(id(one.sharded_param)), getattr(one, "_unsharded_param", None)
        if name is not None and whole is not None:
            names[id(whole)] = name


def _note(known: Wholes, node: Any, name: str, flat: str) -> None:
    """Here the gradient of a piece arrives."""
    if kind_of(node) != "View":
        raise ValueError(_ELSE)
    if name in known.pieces.values():
        raise ValueError(_TWICE)
    if name:
        known.pieces[node] = name
    if name and flat:
        known.parts[name] = flat


def squares(params: Sequence[Tensor], names: Sequence[str], cut: Sequence[int]) -> dict[str, Tensor]:
    """This process's share of the squared norm of each gradient; none at all where one is not known."""
    found, world = {}, shards.world_size()
    for parameter, name, parts in zip(params, names, cut, strict=True):
        grad, mine = parameter.grad, shards.local(parameter)
        if grad is not None and (not parts or shards.placed(grad) != shards.placed(parameter)):
            return {}
        if grad is not None or not mine.numel():
            share = mine.new_zeros(()) if grad is None else square(shards.local(grad).detach())
            found[name] = share * (parts / world)
    return found


def _groups_of(module: nn.Module) -> Iterable[Any]:
    """What `fully_shard` has put together of this module and those below it."""
    ask: Any = getattr(module, "_get_fsdp_state", None)
    state = None if ask is None else ask()
    several = getattr(state, "_fsdp_param_groups", None)
    one = getattr(state, "_fsdp_param_group", None) if several is None else None
    return several or (() if one is None else (one,))


def _pieces_of(flat: Any, names: dict[int, str]) -> list[_Piece]:
    """By number, of what a flat parameter is split into; of padding, and what no optimizer holds, no name."""
    whole = names.pop(id(flat), "")
    own = flat._params or [None] * len(flat._fqns)
    found = []
    for name, one in zip(flat._fqns, own, strict=True):
        mine = whole.removesuffix("_flat_param") + name if whole else names.get(id(one), "")
        found.append((mine, whole))
    padding = getattr(flat, "_is_padding_mask", None) or [False] * len(found)
    each = iter(found)
    return [("", "") if padded else next(each) for padded in padding]
