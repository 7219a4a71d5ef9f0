from __future__ import annotations

import numpy as np
import pytest

from vario.record import packing

N = 1_000
DRAW = np.random.default_rng(0)
STEPS = np.arange(N)
VALUES = {
    "noise": DRAW.standard_normal(N),
    "float32 noise": DRAW.standard_normal(N).astype(np.float32).astype(float),
    "constant": np.full(N, 0.1),
    "counts": DRAW.integers(0, 200, N).astype(float),
    "large integers": DRAW.integers(-(2**40), 2**40, N).astype(float),
    "odd values": np.where(np.arange(N) % 3 == 0, np.nan, np.where(np.arange(N) % 3 == 1, -0.0, np.inf)),
    "negative zeros": np.where(np.arange(N) % 2 == 1, -0.0, 1.0),
    "all NaN": np.full(N, np.nan),
    "tiny": np.full(N, 5e-324) * (np.arange(N) % 2),
    "schedule": np.repeat([0.1, 0.01, 0.001, 1e-4], N // 4),
    "vectors": DRAW.integers(0, 70_000, (N, 7)).astype(float),
    "a column of many": np.asfortranarray(DRAW.standard_normal((N, 3))),
}


@pytest.mark.parametrize("name", VALUES)
@pytest.mark.parametrize("count", [1, 2, 999, N])
def test_every_bit_comes_back(name: str, count: int) -> None:
    values = VALUES[name][:count]
    for steps in (
        STEPS[:count],
        np.cumsum(DRAW.integers(1, 9, count)),
        np.full(count, 5),
        3 * STEPS[:count] - 1,
    ):
        again, back = packing.unpack(packing.pack(steps, values))
        np.testing.assert_array_equal(again, steps)
        assert back.shape == values.shape
        assert np.ascontiguousarray(values).tobytes() == back.tobytes()
        assert again.dtype == np.int64 and back.dtype == np.float64


@pytest.mark.parametrize(
    ("name", "bytes_per_point"),
    [("constant", 0.1), ("counts", 1.1), ("float32 noise", 4.1), ("schedule", 0.2), ("noise", 8.1)],
)
def test_what_is_regular_is_stored_small(name: str, bytes_per_point: float) -> None:
    assert len(packing.pack(STEPS, VALUES[name])) < bytes_per_point * N


def test_series_packed_together_are_the_bytes_of_each() -> None:
    points = np.array([values for values in VALUES.values() if values.ndim == 1] * 2)
    assert packing.pack_all(STEPS, points) == [packing.pack(STEPS, values) for values in points]


@pytest.mark.parametrize("name", VALUES)
def test_what_single_precision_holds_is_packed_and_summed_up_alike(name: str) -> None:
    values = VALUES[name]
    narrow = packing.narrow(values)
    assert narrow.astype(float).tobytes() == np.ascontiguousarray(values).tobytes()
    double = {"noise", "a column of many", "large integers", "tiny", "constant", "schedule"}
    assert (narrow.dtype == np.float32) == (name not in double)
    assert packing.pack(STEPS, narrow) == packing.pack(STEPS, values)
    np.testing.assert_array_equal(packing.summary(narrow), packing.summary(values))


@pytest.mark.parametrize("name", ["noise", "schedule", "constant"])
def test_a_changed_bit_is_noticed_wherever_it_is(name: str) -> None:
    chunk = packing.pack(STEPS, VALUES[name])
    for at in (*range(40), len(chunk) // 2, len(chunk) - 1):
        broken = bytearray(chunk)
        broken[at % len(chunk)] ^= 16
        with pytest.raises(packing.Damaged):
            packing.unpack(bytes(broken))
    for short in (b"", chunk[:3], chunk[:-1]):
        with pytest.raises(packing.Damaged):
            packing.unpack(short)


def test_a_block_comes_back_and_notices_a_changed_bit() -> None:
    ids, steps = np.array([3, 9, 4], np.int32), np.array([5, 6, 9])
    for points in (DRAW.standard_normal((3, 5)), np.full((3, 5), np.nan), np.ones((3, 5))):
        block = packing.pack_block(ids, steps, points)
        again = packing.unpack_block(block)
        for got, wanted in zip(again, (ids, steps, points), strict=True):
            np.testing.assert_array_equal(got, wanted)
        for at in (0, 9, 20, len(block) - 1):
            broken = bytearray(block)
            broken[at] ^= 1
            with pytest.raises(packing.Damaged):
                packing.unpack_block(bytes(broken))


def test_summary_leaves_nan_out_and_keeps_infinity() -> None:
    assert packing.summary(np.array([1.0, np.nan, 4.0])) == (1.0, 2.5, 4.0)
    assert packing.summary(np.array([1.0, 2.0, 6.0])) == (1.0, 3.0, 6.0)
    assert packing.summary(np.array([1.0, np.inf])) == (1.0, np.inf, np.inf)
    assert np.isnan(packing.summary(np.full(3, np.nan))).all()
    low, mean, high = packing.summary(np.array([-np.inf, np.inf]))
    assert (low, high) == (-np.inf, np.inf) and np.isnan(mean)
