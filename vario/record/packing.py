"""Points of one series to bytes and back, without loss, NaN and infinity included.

A chunk is a header, the steps, and the values. Values take the narrowest type that holds every bit of
them (float32 for most of what torch gives), their bytes are laid out plane by plane, and the planes
that do not look like noise are compressed: exponents shrink, mantissas of noisy numbers never do.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Steps = NDArray[np.int64]
Values = NDArray[np.float64]
Floats = NDArray[np.floating[Any]]  # float32 where that holds every bit, else float64
Grid = tuple[int, int, int] | bytes  # steps of a chunk: start, stride, count; or as int64 where not regular

_HEADER = struct.Struct(
    "<IBBBBIIqq"
)  # crc, type, planes compressed, regular, constant, count, width, start, stride
_TYPES = ("u1", "<i4", "<f4", "<f8")
_DTYPES = tuple(map(np.dtype, _TYPES))
_SIZES = tuple(dtype.itemsize for dtype in _DTYPES)
_BLOCK = struct.Struct("<IIIB")  # crc, series, steps, type
_SAMPLE = 64  # bytes of a plane that are looked at; noise shows about 57 distinct ones among them


class Damaged(Exception):
    """Bytes that are not what was written."""


def pack(steps: Steps, values: Values) -> bytes:
    """`steps` (n,) and `values` (n,) or (n, width) as the bytes of one chunk; n is at least 1."""
    return pack_all(steps, values[None])[0]


def pack_all(steps: Steps, points: Floats) -> list[bytes]:
    """`points` (series, n) or (series, n, width), read at the same `steps` (n,): a chunk per series."""
    count, width = len(steps), points.shape[2] if points.ndim == 3 else 0
    stride = int(steps[1] - steps[0]) if count > 1 else 1
    regular = bool((np.diff(steps) == stride).all())
    points = np.ascontiguousarray(points).reshape(len(points), count, -1)
    bits = _bits(points)
    constant = (bits == bits[:, :1]).all((1, 2))
    chunks = [b""] * len(points)
    for once in (True, False):
        among = np.flatnonzero(constant == once)
        if not among.size:
            continue
        rows = _chosen(points[:, :1] if once else points, among).reshape(len(among), -1)
        kinds = _narrowest(rows)
        for kind in set(kinds.tolist()):
            of_kind = np.flatnonzero(kinds == kind)
            narrow = _chosen(rows, of_kind).astype(_DTYPES[kind], copy=False)
            planes = narrow.view(np.uint8).reshape(*narrow.shape, -1).transpose(0, 2, 1)
            numbers = among[of_kind].tolist()
            for number, mask, stored, packed in _squeezed(planes):
                if not regular:
                    stored = steps.astype("<i8").tobytes() + stored
                head = _HEADER.pack(0, kind, mask, regular, once, count, width, int(steps[0]), stride)[4:]
                body = head + stored + packed
                chunks[numbers[number]] = struct.pack("<I", zlib.crc32(body)) + body
    return chunks


def unpack(chunk: bytes) -> tuple[Steps, Values]:
    """What `pack` was given; raises Damaged where a bit has changed."""
    part = opened(chunk)
    values = _values([part])[0]
    return stepping(part.steps), values if part.width else values[:, 0]


class Part(NamedTuple):
    """A chunk whose bytes are known to be whole: its steps, and its values still in planes."""

    kind: int
    constant: bool
    length: int
    width: int
    steps: Grid
    planes: bytes


def opened(chunk: bytes) -> Part:
    """The parts of one chunk; raises Damaged where a bit has changed."""
    if len(chunk) < _HEADER.size or zlib.crc32(memoryview(chunk)[4:]) != int.from_bytes(chunk[:4], "little"):
        raise Damaged("its checksum is wrong")
    _, kind, mask, regular, constant, count, width, start, stride = _HEADER.unpack_from(chunk)
    at = _HEADER.size
    steps: Grid = (start, stride, count)
    if not regular:
        steps, at = chunk[at : at + 8 * count], at + 8 * count
    if not mask:
        return Part(kind, bool(constant), count, width, steps, chunk[at:])
    itemsize = _SIZES[kind]
    size = (1 if constant else count) * (width or 1)
    end = at + size * (itemsize - mask.bit_count())
    stored, packed = chunk[at:end], zlib.decompress(chunk[end:], -12)
    upper = mask >> (itemsize - mask.bit_count()) << (itemsize - mask.bit_count()) == mask
    planes = stored + packed if upper else _in_place(stored, packed, mask, size, itemsize)
    return Part(kind, bool(constant), count, width, steps, planes)


def values_of(parts: Sequence[Part]) -> Values:
    """The values of the parts of one series, end to end: (n,) or (n, width). Quicker than one by one."""
    if not parts:
        return np.zeros(0)
    width = parts[0].width
    alike: dict[tuple[int, bool, int], list[int]] = {}
    for place, part in enumerate(parts):
        alike.setdefault((part.kind, part.constant, part.length), []).append(place)
    if len(alike) == 1:
        values = _values(parts).reshape(-1, width or 1)
    else:
        starts = np.cumsum([0, *(part.length for part in parts)])
        values = np.empty((int(starts[-1]), width or 1))
        for (_, _, count), places in alike.items():
            for place, rows in zip(places, _values([parts[i] for i in places]), strict=True):
                values[starts[place] : starts[place] + count] = rows
    return values if width else values[:, 0]


def stepping(steps: Grid) -> Steps:
    """The steps that a Grid stands for."""
    if isinstance(steps, bytes):
        return np.frombuffer(steps, "<i8").astype(np.int64)
    start, stride, count = steps
    return np.arange(count, dtype=np.int64) * stride + start


def _values(parts: Sequence[Part]) -> Values:
    """Of parts of one kind and size: (parts, count, width or 1)."""
    kind, constant, count, width, _, planes = parts[0]
    dtype = _DTYPES[kind]
    rows = (1 if constant else count) * (width or 1)
    raw = planes if len(parts) == 1 else b"".join([part.planes for part in parts])
    laid = np.frombuffer(raw, np.uint8).reshape(len(parts), dtype.itemsize, rows)
    items = np.empty((len(parts), rows, dtype.itemsize), np.uint8)
    for plane in range(dtype.itemsize):
        items[:, :, plane] = laid[:, plane]
    values = items.view(dtype).astype(np.float64).reshape(len(parts), -1, width or 1)
    return np.repeat(values, count, axis=1) if constant else values


def in_order(steps: Steps, values: NDArray[Any], axis: int = 0) -> tuple[Steps, NDArray[Any]]:
    """Steps rising along `axis`; of several values at one step the last written stands."""
    if (np.diff(steps) > 0).all():
        return steps, values
    order = np.argsort(steps, kind="stable")
    steps = steps[order]
    keep = np.append(np.diff(steps) > 0, True)
    return steps[keep], values.take(order[keep], axis)


def summaries(points: Floats) -> list[tuple[float, float, float]]:
    """The summary of each series of `points` (series, ...)."""
    rows = points.reshape(len(points), -1)
    with np.errstate(invalid="ignore"):
        means = rows.mean(1, dtype=np.float64).tolist()
        all_told = zip(rows.min(1).tolist(), means, rows.max(1).tolist(), strict=True)
    return [told if told[1] == told[1] else summary(row) for told, row in zip(all_told, rows, strict=True)]


def summary(values: Floats) -> tuple[float, float, float]:
    """Smallest, mean and largest of the values that are not NaN; NaN where there is none."""
    with np.errstate(invalid="ignore"):  # inf - inf is NaN, as it should be
        mean = float(values.mean(dtype=np.float64))
        if mean == mean:
            return float(values.min()), mean, float(values.max())
        known = values[~np.isnan(values)]
        if not known.size:
            return mean, mean, mean
        return float(known.min()), float(known.mean(dtype=np.float64)), float(known.max())


def narrow(points: Values) -> Floats:
    """The same numbers in single precision where that holds every bit of them."""
    with np.errstate(over="ignore", invalid="ignore"):
        single = points.astype(np.float32)
    return single if (_bits(single.astype(np.float64)) == _bits(points)).all() else points


def pack_block(series: NDArray[np.int32], steps: Steps, points: Floats) -> bytes:
    """A flush of several series at the same steps: `points` is (steps, columns of all series)."""
    kind = _TYPES.index("<f4" if points.dtype == np.float32 else "<f8")
    body = (
        _BLOCK.pack(0, len(series), len(steps), kind)[4:]
        + series.astype("<i4").tobytes()
        + steps.astype("<i8").tobytes()
        + points.astype(_DTYPES[kind], copy=False).tobytes()
    )
    return struct.pack("<I", zlib.crc32(body)) + body


def unpack_block(block: bytes) -> tuple[NDArray[np.int32], Steps, Values]:
    """What `pack_block` was given; raises Damaged where a bit has changed."""
    if len(block) < _BLOCK.size or zlib.crc32(memoryview(block)[4:]) != int.from_bytes(block[:4], "little"):
        raise Damaged("its checksum is wrong")
    _, series, steps, kind = _BLOCK.unpack_from(block)
    at = _BLOCK.size
    ids = np.frombuffer(block, "<i4", series, at)
    at += 4 * series
    when = np.frombuffer(block, "<i8", steps, at)
    points = np.frombuffer(block, _TYPES[kind], offset=at + 8 * steps)
    return ids, when.astype(np.int64), points.astype(np.float64).reshape(steps, -1)


def _in_place(stored: bytes, packed: bytes, mask: int, size: int, planes: int) -> bytes:
    """The planes in their order: those in `mask` come from `packed`, the others from `stored`."""
    parts, at = [], [0, 0]
    for plane in range(planes):
        source = mask >> plane & 1
        parts.append((stored, packed)[source][at[source] : at[source] + size])
        at[source] += size
    return b"".join(parts)


def _squeezed(planes: NDArray[np.uint8]) -> Iterator[tuple[int, int, bytes, bytes]]:
    """Of `planes` (series, planes, n), in any order: the series, which of its planes do not look like noise,
    the bytes of the others, and theirs compressed.
    """
    sample = planes[:, :, :_SAMPLE]
    seen = np.zeros((planes.shape[0] * planes.shape[1], 256), bool)
    seen[np.arange(len(seen))[:, None], sample.reshape(len(seen), -1)] = True
    distinct = seen.sum(1).reshape(planes.shape[:2])
    quiet = 2 * distinct < sample.shape[2]
    quiet &= (quiet.sum(1) > 1)[:, None] | (planes.shape[1] == 1)  # one of several is not worth its time
    repeats = 2 * (sample[:, :, 1:] == sample[:, :, :-1]).sum(2) > sample.shape[2]
    masks = quiet @ (1 << np.arange(quiet.shape[1]))
    for mask in set(masks.tolist()):
        alike = np.flatnonzero(masks == mask)
        flat = quiet[alike[0]]
        noisy, even = (np.ascontiguousarray(planes[alike][:, which]) for which in (~flat, flat))
        in_runs = (repeats[alike] & flat).sum(1) * 2 > flat.sum()
        for series, stored, packed, runs in zip(alike.tolist(), noisy, even, in_runs.tolist(), strict=True):
            if not mask:
                yield series, mask, stored.tobytes(), b""
                continue
            deflate = zlib.compressobj(1, zlib.DEFLATED, -12, 4, zlib.Z_RLE if runs else zlib.Z_HUFFMAN_ONLY)
            yield series, mask, stored.tobytes(), deflate.compress(packed) + deflate.flush()


def _narrowest(rows: Floats) -> NDArray[np.intp]:
    """For each of `rows` (n, values) the number of the narrowest type that gives back every bit."""
    own = 2 if rows.dtype == np.float32 else 3
    kinds = np.full(len(rows), own)
    left = np.arange(len(rows))
    for kind, dtype in enumerate(_DTYPES[:own]):
        fits = left[_holds(_chosen(rows[:, :8], left), dtype)]  # noise is refused after 8 values
        fits = fits[_holds(_chosen(rows, fits), dtype)]
        kinds[fits] = kind
        left = left[kinds[left] != kind]
    return kinds


def _chosen(rows: Floats, which: NDArray[np.intp]) -> Floats:
    """Rows by their rising numbers, not copied where they are all of them."""
    return rows if len(which) == len(rows) else rows[which]


def _holds(rows: Floats, dtype: np.dtype[Any]) -> NDArray[np.bool_]:
    with np.errstate(invalid="ignore", over="ignore"):
        back = rows.astype(dtype).astype(rows.dtype)
    same: NDArray[np.bool_] = (_bits(back) == _bits(np.ascontiguousarray(rows))).all(1)
    return same


def _bits(values: Floats) -> NDArray[Any]:
    return values.view(np.int32 if values.dtype == np.float32 else np.int64)
