"""The entries of many tensors as flat real vectors, and sums over them that do not wait for the device.

Tensors are cut into pieces that a processor's cache holds: the sums of a piece then cost one read
of memory together, and single precision is enough inside a piece (over two million entries
`vector_norm` is wrong by 3e-5 on a CPU, over pieces by less than 1e-6). Pieces are put together on the host
in double precision, which is also how the sums over the whole model come about.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import Parameter

from vario.capture.needs import Pending
from vario.capture.segments import Segments, alone_or_joined

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

__all__ = [
    "Pieces",
    "Statistics",
    "changes",
    "cosines",
    "cut",
    "histograms",
    "log_edges",
    "norms",
    "row_ranges",
    "statistics",
]


CACHE = 1 << 17  # entries of a piece on a CPU: 512 KB of float32
LARGE = 1 << 22  # elsewhere, where a launch costs more than a cache miss and sums are trees
BINS = 64
SUSPECT = 1e-16  # below it squares of entries leave float32 (its smallest is 1e-38)


@dataclass(frozen=True, slots=True)
class Pieces:
    """Flat pieces of tensors; ``owner`` is the index of the tensor that each piece comes from.

    ``counts`` are the entries of each tensor, for a sparse tensor with those that it does not
    store; 0 where a tensor is missing, empty, or of a kind that has no numbers to read.
    """

    flat: list[Tensor]
    owner: NDArray[np.int64]
    names: tuple[str, ...]
    counts: Array


class Statistics(NamedTuple):
    """Of the entries of one tensor (or of all): ``std`` is about the mean, over n (not n - 1)."""

    mean: float
    std: float
    largest: float
    zero_share: float


def cut(tensors: Sequence[Tensor | None], names: Sequence[str]) -> Pieces:
    """Views of the tensors (copies where one is sparse or not contiguous); equal names are pooled."""
    flat: list[Tensor] = []
    owner: list[int] = []
    number = {name: index for index, name in enumerate(dict.fromkeys(names))}
    counts = np.zeros(len(number))
    for name, tensor in zip(names, tensors, strict=True):
        index = number[name]
        stored = None if tensor is None else _stored(tensor)
        if tensor is None or stored is None or stored.numel() == 0:
            continue
        real_parts = 2 if tensor.is_complex() else 1
        counts[index] += tensor.numel() * real_parts
        limit = CACHE if stored.device.type == "cpu" else LARGE
        pieces = torch.split(stored, limit) if stored.numel() > limit else (stored,)
        flat.extend(pieces)
        owner.extend([index] * len(pieces))
    return Pieces(flat, np.asarray(owner, dtype=np.int64), tuple(number), counts)


def norms(pieces: Pieces) -> Pending | None:
    """Norm and number of non-finite entries of each tensor, and of all (where "")."""
    if not pieces.flat:
        return None

    def finish(host: list[Array]) -> dict[str, tuple[float, ...]]:
        norm, bad = host[0].copy(), np.zeros(len(host[0]))
        for index in np.flatnonzero(~np.isfinite(norm) | (norm < SUSPECT)):
            entries = _exact(pieces.flat[index])
            bad[index] = int((~entries.isfinite()).sum())
            norm[index] = float(torch.linalg.vector_norm(entries))
        squares = _by_owner(pieces, norm**2)
        return _by_where(pieces, np.sqrt(squares), _by_owner(pieces, bad))

    return Pending([_norm_of_each(pieces.flat)], finish)


def statistics(pieces: Pieces) -> Pending | None:
    """``Statistics`` of each tensor, and of all (where "")."""
    if not pieces.flat:
        return None
    alone, groups = alone_or_joined(pieces.flat)
    parts = _statistics_alone([pieces.flat[index] for index in alone]) if alone else []
    for group in groups:
        parts += _statistics_joined([pieces.flat[index] for index in group])

    def finish(host: list[Array]) -> dict[str, Statistics]:
        mean, spread, low, high, nonzero = _in_order(host, [alone, *groups] if alone else groups, 5)
        largest = np.maximum(np.abs(low), np.abs(high))
        for index in np.flatnonzero(
            (largest > 0) & ((largest < SUSPECT) | np.isinf(spread)) & np.isfinite(largest)
        ):
            entries = _exact(pieces.flat[index])
            mean[index] = float(entries.mean())
            spread[index] = float(torch.linalg.vector_norm(entries - entries.mean()))
        return _combine(pieces, mean, spread, largest, nonzero)

    return Pending(parts, finish)


def _statistics_alone(flat: Sequence[Tensor]) -> list[Tensor]:
    """Mean, norm about it, least, largest and number of entries that are not zero, of each tensor."""
    found: list[list[Tensor]] = [[] for _ in range(5)]
    means, spreads, lows, highs, stored = found
    room = torch.empty(0)
    for piece in flat:  # all of one piece before the next one: it is read from memory once
        piece = _at_least_single(piece)
        if room.dtype != piece.dtype or room.device != piece.device or room.numel() < piece.numel():
            room = torch.empty_like(piece)
        work = room[: piece.numel()]
        mean = piece.mean()
        means.append(mean)
        spreads.append(torch.linalg.vector_norm(torch.sub(piece, mean, out=work)))
        low, high = torch.aminmax(piece)
        lows.append(low)
        highs.append(high)
        stored.append(torch.ne(piece, 0, out=work).sum())  # ten times faster than count_nonzero on a CPU
    return [torch.stack(values) for values in found]


def _statistics_joined(flat: Sequence[Tensor]) -> list[Tensor]:
    """The same of small tensors, with the same few calls for all."""
    segments = Segments(tuple(piece.numel() for piece in flat), flat[0].device)
    joined = _at_least_single(torch.cat(list(flat)))
    mean = segments.sums(joined) / segments.counts()
    spread = segments.sums((joined - segments.spread_out(mean)).square_()).sqrt_()
    low, high = segments.ends(joined)
    return [mean, spread, low, high, segments.sums((joined != 0).to(joined.dtype))]


def histograms(pieces: Pieces) -> Pending | None:
    """Counts of log-magnitudes of each tensor, and of all (where ""): see ``log_edges``."""
    if not pieces.flat:
        return None
    table: dict[torch.device, Tensor] = {}
    counts: list[Tensor] = []
    for group in _groups(pieces.flat):
        joined = torch.cat(group).float() if len(group) > 1 else group[0].float()
        if joined.device not in table:
            table[joined.device] = torch.from_numpy(_bin_of_key()).to(joined.device)
        key = joined.view(torch.int32).bitwise_and(0x7FFFFFFF).bitwise_right_shift_(16)
        bins = table[joined.device].index_select(0, key)
        lengths = [piece.numel() for piece in group]
        if joined.device.type == "cpu" or len(group) == 1:
            counts.extend(torch.bincount(part, minlength=BINS + 1) for part in torch.split(bins, lengths))
        else:
            counts.append(_counts_joined(bins, Segments(tuple(lengths), joined.device)))

    def finish(host: list[Array]) -> dict[str, list[float]]:
        each = host[0].reshape(-1, BINS + 1)[:, :BINS]
        total = np.zeros((len(pieces.names), BINS))
        np.add.at(total, pieces.owner, each)
        rows = np.vstack([total[pieces.counts > 0], total.sum(axis=0)])
        return dict(zip(_wheres(pieces), rows.tolist(), strict=True))

    return Pending([torch.cat(counts)], finish)


def _counts_joined(bins: Tensor, segments: Segments) -> Tensor:
    """The counts of all tensors that were joined, one after the other."""
    first = torch.arange(len(segments.lengths), device=bins.device) * (BINS + 1)
    counts: Tensor = torch.bincount(
        segments.spread_out(first).add_(bins), minlength=len(segments.lengths) * (BINS + 1)
    )
    return counts


def log_edges() -> Array:
    """The 65 edges of the histogram: half-decades from 1e-24 to 1e8, rounded to 8 binary digits.

    The rounding (at most 0.4 %) makes the bin a function of the upper half of a float32, so that
    it is looked up, not computed, and is exact. Smaller magnitudes count in the first bin and
    larger ones in the last; zeros (below 1e-40) and what is not finite in float32 are not counted.
    """
    exact = (10.0 ** (-24 + np.arange(BINS + 1) / 2)).astype(np.float32).view(np.uint32)
    return ((exact + 0x8000) & 0xFFFF0000).astype(np.uint32).view(np.float32).astype(np.float64)


def cosines(now: Pieces, before: Pieces) -> Pending | None:
    """Cosine between two lists of tensors, of each tensor and of all (where "")."""
    if not _alike(now, before):
        return None
    dots, order = _of_pairs(now, before, torch.dot, lambda segments, a, b: segments.sums(a * b))

    def finish(host: list[Array]) -> dict[str, float]:
        (dot,) = _in_order(host[2:], order, 1)
        dot = _by_owner(now, dot)
        lengths = np.sqrt(_by_owner(now, host[0] ** 2)), np.sqrt(_by_owner(now, host[1] ** 2))
        with np.errstate(all="ignore"):
            cosine = dot / (lengths[0] * lengths[1])
        cosine[np.minimum(*lengths) < SUSPECT] = np.nan  # products left float32
        return {where: value for where, (value,) in _by_where(now, cosine).items() if math.isfinite(value)}

    return Pending([_norm_of_each(now.flat), _norm_of_each(before.flat), *dots], finish)


def changes(now: Pieces, before: Pieces) -> Pending | None:
    """Norm of the difference of two lists of tensors, and norm of the second: of each and of all."""
    if not _alike(now, before):
        return None
    distances, order = _of_pairs(
        now,
        before,
        lambda a, b: torch.linalg.vector_norm(a - b),
        lambda segments, a, b: segments.sums((a - b).square_()).sqrt_(),
    )

    def finish(host: list[Array]) -> dict[str, tuple[float, ...]]:
        (distance,) = _in_order(host[1:], order, 1)
        return _by_where(now, *(np.sqrt(_by_owner(now, norm**2)) for norm in (distance, host[0])))

    return Pending([_norm_of_each(before.flat), *distances], finish)


def _of_pairs(
    now: Pieces,
    before: Pieces,
    of_two: Callable[[Tensor, Tensor], Tensor],
    of_joined: Callable[[Segments, Tensor, Tensor], Tensor],
) -> tuple[list[Tensor], list[list[int]]]:
    """A number for each pair of pieces, by `of_two` or many at once by `of_joined`; and whose each is."""
    alone, groups = alone_or_joined(now.flat)
    parts = []
    if alone:
        parts.append(torch.stack([of_two(*_wide(now.flat[k], before.flat[k])) for k in alone]))
    for group in groups:
        segments = Segments(tuple(now.flat[k].numel() for k in group), now.flat[group[0]].device)
        pair = (torch.cat([pieces.flat[k] for k in group]) for pieces in (now, before))
        parts.append(of_joined(segments, *_wide(*pair)))
    return parts, [alone, *groups] if alone else groups


def _in_order(host: Sequence[Array], groups: Sequence[Sequence[int]], columns: int) -> list[Array]:
    """Columns of all pieces, out of those of groups of pieces."""
    order = np.concatenate([np.asarray(group) for group in groups])
    found = []
    for column in range(columns):
        values = np.empty(len(order))
        values[order] = np.concatenate(host[column : columns * len(groups) : columns])
        found.append(values)
    return found


def row_ranges(tensors: Sequence[Tensor], names: Sequence[str]) -> Pending | None:
    """Largest difference between two rows at one place, and largest magnitude, of each matrix."""
    matrices = {
        n: t
        for t, n in zip(tensors, names, strict=True)
        if t.ndim > 1 and t.shape[0] > 1 and t.numel() and _stored(t) is not None
    }
    if not matrices:
        return None
    parts = []
    for tensor in matrices.values():
        rows = (torch.view_as_real(tensor.detach()) if tensor.is_complex() else tensor.detach()).flatten(1)
        low, high = rows.amin(dim=0), rows.amax(dim=0)
        parts.extend([(high - low).max(), torch.maximum(high.max(), -low.min())])
    return Pending(
        [torch.stack(parts)], lambda host: dict(zip(matrices, host[0].reshape(-1, 2).tolist(), strict=True))
    )


def _alike(a: Pieces, b: Pieces) -> bool:
    """Whether the pieces of two lists of tensors lie opposite each other."""
    shapes = [piece.shape for piece in a.flat] == [piece.shape for piece in b.flat]
    return bool(a.flat) and shapes and np.array_equal(a.owner, b.owner)


def _stored(tensor: Tensor) -> Tensor | None:
    """The entries that a tensor stores, flat and real; None where it has none to read."""
    if type(tensor) not in (Tensor, Parameter) and getattr(tensor, "_local_tensor", None) is not None:
        return None  # a shard of a distributed tensor is not the tensor
    tensor = tensor.detach()
    if tensor.dtype == torch.float32 and tensor.layout is torch.strided and not tensor.is_meta:
        return tensor.reshape(-1)
    if tensor.is_sparse:
        tensor = tensor.coalesce().values()
    if tensor.layout is not torch.strided or tensor.is_meta or tensor.is_quantized:
        return None
    if tensor.is_complex():
        tensor = torch.view_as_real(tensor.resolve_conj())
    return tensor.reshape(-1) if tensor.is_floating_point() else None


def _norm_of_each(flat: list[Tensor]) -> Tensor:
    flat = [_at_least_single(piece) for piece in flat]
    if len({piece.dtype for piece in flat}) == 1:
        return torch.stack(torch._foreach_norm(flat))
    return torch.stack([torch.linalg.vector_norm(piece).double() for piece in flat])


def _at_least_single(piece: Tensor) -> Tensor:
    return piece.float() if piece.dtype in (torch.float16, torch.bfloat16) else piece


def _wide(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    dtype = torch.promote_types(torch.promote_types(a.dtype, b.dtype), torch.float32)
    return a.to(dtype), b.to(dtype)


def _exact(piece: Tensor) -> Tensor:
    """For the few pieces whose squares leave float32, and to count what is not finite."""
    return piece.cpu().double()


def _groups(flat: list[Tensor]) -> list[list[Tensor]]:
    """Pieces put together, where they are small and alike, up to the length of one piece."""
    groups: list[list[Tensor]] = []
    room = 0
    for piece in flat:
        alike = groups and groups[-1][0].device == piece.device and groups[-1][0].dtype == piece.dtype
        if not alike or piece.numel() > room:
            groups.append([])
            room = CACHE if piece.device.type == "cpu" else LARGE
        groups[-1].append(piece)
        room -= piece.numel()
    return groups


@functools.cache
def _bin_of_key() -> NDArray[np.uint8]:
    """The bin of each upper half of a float32; ``BINS`` for what is not counted."""
    magnitude = (np.arange(1 << 15, dtype=np.uint32) << 16).view(np.float32)
    with np.errstate(invalid="ignore"):  # some of the keys are NaN
        found = np.searchsorted(log_edges(), magnitude, side="right") - 1
    found = np.clip(found, 0, BINS - 1)
    found[(magnitude == 0) | ~np.isfinite(magnitude)] = BINS
    return found.astype(np.uint8)


@np.errstate(all="ignore")  # what is not a number stays so, and nobody is warned
def _combine(
    pieces: Pieces, mean: Array, spread: Array, largest: Array, nonzero: Array
) -> dict[str, Statistics]:
    stored = np.array([piece.numel() for piece in pieces.flat], dtype=float)
    count = np.append(pieces.counts[pieces.counts > 0], pieces.counts.sum())
    center = _by_owner(pieces, stored * mean) / count
    # squares about the mean of the whole = squares about a part's own mean + those of the parts' means
    of_piece = np.cumsum(pieces.counts > 0)[pieces.owner] - 1
    inner = np.bincount(
        of_piece, spread**2 + stored * (mean - center[of_piece]) ** 2, minlength=len(count) - 1
    )
    whole = np.sum(spread**2 + stored * (mean - center[-1]) ** 2)
    unstored = count - _by_owner(pieces, stored)
    variance = (np.append(inner, whole) + unstored * center**2) / count
    top = np.full(len(pieces.names), -np.inf)
    np.maximum.at(top, pieces.owner, largest)
    top = np.append(top[pieces.counts > 0], largest.max())
    zero_share = 1 - _by_owner(pieces, nonzero) / count
    found = _by_where(pieces, center, np.sqrt(variance), top, zero_share)
    return {where: Statistics._make(row) for where, row in found.items()}


@np.errstate(all="ignore")
def _by_owner(pieces: Pieces, values: Array) -> Array:
    """Sums of values of pieces for each measured tensor, and last over all."""
    each = np.bincount(pieces.owner, values, minlength=len(pieces.names))
    return np.append(each[pieces.counts > 0], values.sum())


def _wheres(pieces: Pieces) -> list[str]:
    return [*(pieces.names[index] for index in np.flatnonzero(pieces.counts)), ""]


def _by_where(pieces: Pieces, *columns: Array) -> dict[str, tuple[float, ...]]:
    rows = zip(*(column.tolist() for column in columns), strict=True)
    return dict(zip(_wheres(pieces), rows, strict=True))
