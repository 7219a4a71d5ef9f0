"""The parts of a model's parameters that this process holds, where they are cut over several processes.

So it is under FSDP, of both kinds, and under tensor parallelism. To ask such a parameter for its norm is to
ask all processes, and the run hangs where one of them does not ask as well. So nothing here sends anything:
each process squares its own part, and who reads the records adds the parts up (``vario.record.shards``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from vario.capture import entries
from vario.capture.needs import Pending

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Moments = tuple[float, float, float, float, float]

__all__ = [
    "OF_WHOLES",
    "REFUSED",
    "Shards",
    "changes",
    "cuts",
    "gradients",
    "histograms",
    "is_here",
    "is_whole",
    "local",
    "moments",
    "placed",
    "read_by_all",
    "take",
    "weights",
    "world_size",
]

OFTEN = 8  # readings while a run doubles
OF_WHOLES = frozenset(  # raw needs that read gradients and weights as if they were all there
    {"grads", "grads_previous", "keep_grads", "weights_before", "keep_weights", "carried"}
)
_WHOLE = "the parameters are shards: it is of whole {}, which no process holds and none is asked for"
REFUSED = {  # what nothing stands in for where parameters are cut, and why
    "gradient_cosines": _WHOLE.format("gradients"),
    "gradient_spectra": _WHOLE.format("gradients"),
    "carried": _WHOLE.format("gradients"),
    "clip": "the parameters are shards: the norm that clipping saw is known to all processes together",
    "row_ranges": _WHOLE.format("weights"),
    "weight_spectra": _WHOLE.format("weights"),
}
LONGEST = 64  # steps from one reading to the next at most


@dataclass(frozen=True, slots=True)
class Shards:
    """Local parts only. ``shares``: what a part counts for in the sum over all processes; 0: not known.

    ``padded``: how many entries at the end of each part are no parameters but make all parts equally long.
    """

    names: list[str]
    shares: list[float]
    params: list[Tensor]
    before: list[Tensor]
    padded: list[int] = field(default_factory=list)

    def parts(self, tensors: Sequence[Tensor | None]) -> list[Tensor | None]:
        """Without what is padded."""
        padded = self.padded or [0] * len(tensors)
        return [
            t.flatten()[: t.numel() - extra] if t is not None and extra else t
            for t, extra in zip(tensors, padded, strict=True)
        ]


def read_by_all(step: int) -> bool:
    """Whether all processes read at this step: they agree without a word, for it depends on nothing else.

    Every step at first, then so often while the run doubles, then every so many steps.
    """
    doubled = 1 << step.bit_length()
    return step % min(LONGEST, max(1, doubled // (2 * OFTEN))) == 0


def world_size() -> int:
    """How many processes are in the default group; 1 where there is none."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return int(torch.distributed.get_world_size())
    return 1


def is_whole(tensor: Tensor) -> bool:
    """Whether it is all there, and not this process's part of a distributed tensor."""
    return getattr(tensor, "_local_tensor", None) is None


def is_here(tensor: Tensor) -> bool:
    """Whether it has values, and all of them in this process."""
    return is_whole(tensor) and not tensor.is_meta


def local(tensor: Any) -> Any:
    """The part that this process holds."""
    return getattr(tensor, "_local_tensor", tensor)


def cuts(params: Sequence[Tensor], model: nn.Module | None) -> list[int]:
    """Into how many parts each parameter is cut, 0 where the parts do not make the whole; [] if none is."""
    flat = _flattened(model) if any(getattr(p, "_fsdp_flattened", False) for p in params) else {}
    if not flat and all(is_whole(parameter) for parameter in params):
        return []
    return [flat.get(id(p), 1) if is_whole(p) else _cut(p) for p in params]


def take(params: Sequence[Tensor], names: Sequence[str], cut: Sequence[int]) -> Shards:
    """What this process holds just before the optimizer's step, with copies of the weights."""
    world = world_size()
    alike = [p.grad is None or placed(p.grad) == placed(p) for p in params]
    return Shards(
        list(names),
        [number / world if same else 0.0 for number, same in zip(cut, alike, strict=True)],
        [local(parameter).detach() for parameter in params],
        [local(parameter).detach().clone() for parameter in params],
        [int(getattr(parameter, "_shard_numel_padded", 0)) for parameter in params],
    )


def gradients(shards: Shards, grads: Sequence[Tensor | None]) -> Pending:
    """By parameter, and of all: this part's share of the squared norm, and of the entries not finite."""
    return _shared(shards, entries.norms(entries.cut(grads, shards.names)), (2, 1))


def weights(shards: Shards) -> Pending:
    """The same of the weights as they are now."""
    return _shared(shards, entries.norms(entries.cut(shards.params, shards.names)), (2, 1))


def changes(shards: Shards) -> Pending:
    """Shares of the squared length of the step, and of that of the weights before it."""
    now, before = (entries.cut(tensors, shards.names) for tensors in (shards.params, shards.before))
    return _shared(shards, entries.changes(now, before), (2, 2))


def moments(shards: Shards, tensors: Sequence[Tensor | None]) -> Pending:
    """By parameter, and of all: how many entries, their sum, squares about their own mean, the largest
    magnitude, and how many are zero; all but the largest times the share."""
    pieces = entries.cut(shards.parts(tensors), shards.names)
    found = entries.statistics(pieces)

    def finish(host: list[NDArray[Any]]) -> dict[str, Moments]:
        each = {} if found is None else found.finish(host)
        counts = dict(zip(pieces.names, pieces.counts.tolist(), strict=True))
        rows: dict[str, Moments] = {}
        for name, share, part in zip(shards.names, shards.shares, shards.params, strict=True):
            if share and name in each:
                n, one = share * counts[name], each[name]
                rows[name] = (n, n * one.mean, n * one.std**2, one.largest, n * one.zero_share)
            elif share and not part.numel():
                rows[name] = (0.0,) * 5
        if rows and all(shards.shares):
            rows[""] = _pooled(list(rows.values()))
        return rows

    return Pending([] if found is None else found.parts, finish)


def histograms(shards: Shards, tensors: Sequence[Tensor | None]) -> Pending:
    """Counts of log-magnitudes (``entries.log_edges``) by parameter, and of all; times the share."""
    found = entries.histograms(entries.cut(shards.parts(tensors), shards.names))

    def finish(host: list[NDArray[Any]]) -> dict[str, list[float]]:
        each = {} if found is None else found.finish(host)
        rows: dict[str, list[float]] = {}
        for name, share, part in zip(shards.names, shards.shares, shards.params, strict=True):
            if share and (name in each or not part.numel()):
                rows[name] = [share * count for count in each.get(name, [0.0] * entries.BINS)]
        if rows and all(shards.shares):
            rows[""] = np.sum(list(rows.values()), axis=0).tolist()
        return rows

    return Pending([] if found is None else found.parts, finish)


def _pooled(rows: list[Moments]) -> Moments:
    """Of several sets of entries as one."""
    count, total, squares, largest, zeros = np.array(rows).T
    with np.errstate(invalid="ignore", divide="ignore"):
        means = np.where(count > 0, total / count, 0.0)
    mean = total.sum() / max(count.sum(), 1e-300)
    about = squares.sum() + (count * (means - mean) ** 2).sum()
    return float(count.sum()), float(total.sum()), float(about), float(largest.max()), float(zeros.sum())


def _shared(shards: Shards, found: Pending | None, powers: tuple[int, int]) -> Pending:
    """``found`` to these powers, times the shares; an empty part is no silence but a share of 0."""

    def finish(host: list[NDArray[Any]]) -> dict[str, tuple[float, float]]:
        each = {} if found is None else found.finish(host)
        rows = {}
        for name, share, part in zip(shards.names, shards.shares, shards.params, strict=True):
            if share and (name in each or not part.numel()):
                a, b = each.get(name, (0.0, 0.0))
                rows[name] = (share * a ** powers[0], share * b ** powers[1])
        if rows and all(shards.shares):
            rows[""] = (sum(a for a, _ in rows.values()), sum(b for _, b in rows.values()))
        return rows

    return Pending([] if found is None else found.parts, finish)


def _cut(parameter: Any) -> int:
    """Into how many parts a distributed tensor is cut; 0 where a part is but a term of a sum."""
    parts = 1
    for dim, placement in enumerate(parameter.placements):
        if type(placement).__name__ in ("Shard", "_StridedShard"):
            parts *= parameter.device_mesh.size(dim)
        elif not placement.is_replicate():
            return 0
    return parts


def _flattened(model: nn.Module | None) -> dict[int, int]:
    """The parameters that FullyShardedDataParallel cuts: the flat ones, and the views that it shows."""
    found: dict[int, int] = {}
    for module in model.modules() if model is not None else ():
        handle: Any = getattr(module, "_handle", None)
        flat = getattr(handle, "flat_param", None)
        if flat is not None and getattr(handle, "uses_sharded_strategy", False):
            shown = [flat, *(getattr(flat, "_params", None) or ())]
            found.update((id(parameter), handle.world_size) for parameter in shown)
    return found


def placed(tensor: Any) -> Any:
    """How a distributed tensor is cut."""
    return getattr(tensor, "placements", None)
