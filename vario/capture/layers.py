"""Sums over the activations and inputs of a step, started on the device before backward consumes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from vario.capture import entries
from vario.capture.needs import Activation, Pending

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

__all__ = ["LayerStatistics", "Spread", "activations", "feature_stds", "spread"]


_LAYERS = frozenset({"linear", "conv", "norm"})
_SATURATES = frozenset({"sigmoid", "tanh"})
_SATURATED = 0.99  # of the way to the limit; a sigmoid's other limit is 0


class LayerStatistics(NamedTuple):
    """Of one module's output; None where the kind of nonlinearity has no such thing."""

    mean: float
    std: float
    largest: float
    zero_share: float
    saturation_share: float | None
    dead_channels: float | None
    channels: float | None


class Spread(NamedTuple):
    """Of some tensors taken together; not a number where an entry is not, but for ``non_finite``."""

    mean: float
    std: float
    smallest: float
    largest: float
    non_finite: float


def activations(found: Sequence[Activation]) -> Pending | None:
    """``LayerStatistics`` of each place: of its nonlinearity, else its layer, else its softmax.

    Several of one sort at one place (a module called twice, the gates of a cell) are pooled.
    """
    chosen = [a for a in _foremost(found) if a.value.numel() and a.value.is_floating_point()]
    pieces = entries.cut([a.value for a in chosen], [a.where for a in chosen])
    started = entries.statistics(pieces)
    if started is None:
        return None
    saturated = {k: _saturated(a) for k, a in enumerate(chosen) if a.kind in _SATURATES}
    silent = {k: _silent_channels(a) for k, a in enumerate(chosen) if a.kind == "relu" and a.value.ndim > 1}
    parts = [*started.parts, *saturated.values(), *silent.values()]

    def finish(host: list[Array]) -> dict[str, LayerStatistics]:
        rest = iter(host[len(started.parts) :])
        share = _pooled(chosen, {k: (next(rest).sum(), chosen[k].value.numel()) for k in saturated})
        dead = _dead(chosen, {k: next(rest) for k in silent})
        statistics = started.finish(host[: len(started.parts)])
        found: dict[str, LayerStatistics] = {}
        for where in dict.fromkeys(a.where for a in chosen):
            dead_channels, channels = dead.get(where, (None, None))
            mean, std, largest, zero_share = statistics[where]
            found[where] = LayerStatistics(
                mean, std, largest, zero_share, share.get(where), dead_channels, channels
            )
        return found

    return Pending(parts, finish)


def spread(tensors: Sequence[Tensor]) -> Pending | None:
    """``Spread`` of all entries of floating tensors."""
    chosen = _floating(tensors)
    pieces = entries.cut(chosen, [""] * len(chosen))
    moments, norms = entries.statistics(pieces), entries.norms(pieces)
    if moments is None or norms is None:
        return None
    ends = torch.stack([end for piece in pieces.flat for end in torch.aminmax(piece)])
    cut = len(moments.parts)

    def finish(host: list[Array]) -> Spread:
        found, (_, non_finite) = moments.finish(host[:cut])[""], norms.finish(host[cut:-1])[""]
        low, high = host[-1].reshape(-1, 2)[:, 0].min(), host[-1].reshape(-1, 2)[:, 1].max()
        return Spread(found.mean, found.std, float(low), float(high), non_finite)

    return Pending([*moments.parts, *norms.parts, ends], finish)


def feature_stds(tensors: Sequence[Tensor]) -> Pending | None:
    """Standard deviation of each column of the first two-dimensional input."""
    tables = [t for t in _floating(tensors) if t.ndim == 2 and t.shape[0] > 1 and t.shape[1] > 1]
    if not tables:
        return None
    table = tables[0].detach()
    table = table.float() if table.dtype in (torch.float16, torch.bfloat16) else table
    return Pending([table.std(dim=0, correction=0)], lambda host: host[0])


def _floating(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Those with a spread; of a sparse one (a graph, bags of words) most entries are not there."""
    return [one for one in tensors if one.is_floating_point() and one.layout is torch.strided]


def _foremost(found: Sequence[Activation]) -> list[Activation]:
    rank = {a.where: 3 for a in found}
    for a in found:
        rank[a.where] = min(rank[a.where], _rank(a.kind))
    return [a for a in found if _rank(a.kind) == rank[a.where]]


def _rank(kind: str) -> int:
    return 1 if kind in _LAYERS else 2 if kind == "softmax" else 0


def _saturated(a: Activation) -> Tensor:
    value, limit = (a.value, _SATURATED) if a.kind == "tanh" else (a.value - 0.5, _SATURATED - 0.5)
    return torch.count_nonzero(value.abs() > limit)


def _silent_channels(a: Activation) -> Tensor:
    """Whether each channel is zero everywhere (the output is never negative; NaN is not zero)."""
    others = [dim for dim in range(a.value.ndim) if dim != a.channel_dim]
    return a.value.amax(dim=others) == 0


def _pooled(chosen: Sequence[Activation], counted: dict[int, tuple[float, int]]) -> dict[str, float]:
    sums: dict[str, Array] = {}
    for k, pair in counted.items():
        sums[chosen[k].where] = sums.get(chosen[k].where, np.zeros(2)) + pair
    return {where: float(hits / entries) for where, (hits, entries) in sums.items()}


def _dead(chosen: Sequence[Activation], silent: dict[int, Array]) -> dict[str, tuple[float, float]]:
    """A channel is dead where it is silent in every call of the module (of the same width)."""
    always: dict[str, Array] = {}
    for k, channels in silent.items():
        before = always.get(chosen[k].where, channels)
        always[chosen[k].where] = before * channels if before.shape == channels.shape else before
    return {where: (float(channels.sum()), float(len(channels))) for where, channels in always.items()}
