from __future__ import annotations

import numpy as np
import pytest

from vario.nouns import Reading, VarioError
from vario.record.tail import CHUNK_POINTS, Block, Layout, Tail, any_row

KEYS = [("x", ""), ("h", "a")]


def block(layout: Layout, ids: list[int], steps: list[int], points: list[list[float]]) -> Block:
    layout.ids = np.array(ids, np.int32)
    return Block(0, layout, np.array(steps), np.array(points))


def test_columns_of_layouts_that_share_a_series_come_in_the_order_of_steps() -> None:
    narrow, wide = Layout("m", KEYS[:1], (0,)), Layout("m", KEYS, (0, 2))
    tail = Tail()
    tail.add(block(narrow, [5], [0, 2], [[10.0], [12.0]]))
    tail.add(block(wide, [5, 7], [1, 3], [[11.0, 1.0, 2.0], [13.0, 3.0, 4.0]]))
    columns = tail.columns()
    assert columns[5][0].tolist() == [0, 1, 2, 3] and columns[5][1].tolist() == [10, 11, 12, 13]
    assert columns[7][0].tolist() == [1, 3] and columns[7][1].tolist() == [[1, 2], [3, 4]]


def test_a_tail_is_full_when_one_series_has_enough_points() -> None:
    tail, rare, common = Tail(), Layout("m", KEYS[1:], (0,)), Layout("m", KEYS[:1], (0,))
    for start in range(0, CHUNK_POINTS - 100, 100):
        tail.add(block(common, [900], list(range(start, start + 100)), [[0.0]] * 100))
        tail.add(block(rare, [3], [start], [[0.0]]))
    assert not tail.is_full()
    tail.add(block(common, [900], list(range(CHUNK_POINTS - 100, CHUNK_POINTS)), [[0.0]] * 100))
    assert tail.is_full()


def test_rows() -> None:
    scalars = Layout("m", KEYS, (0, 0))
    assert np.frombuffer(scalars.scalar_row([1, np.float32(2)]) or b"").tolist() == [1, 2]
    assert [scalars.scalar_row([1.0, odd]) for odd in ({}, [2.0], "3", 10**400)] == [None] * 4
    assert Layout("m", KEYS, (0, 2)).scalar_row([1.0, 2.0]) is None
    row, widths = any_row(KEYS, [1.5, (1, 2)])
    assert np.frombuffer(row).tolist() == [1.5, 1, 2] and widths == (0, 2)
    assert any_row(KEYS, [1.5, [2]])[1] == (0, 1)
    with pytest.raises(VarioError, match="h at 'a'"):
        any_row(KEYS, [1.0, {}])
    with pytest.raises(VarioError, match="h at 'a'"):
        any_row(KEYS, [1.0, []])


def test_values_are_those_of_the_same_series_in_the_same_order() -> None:
    layout = Layout("m", KEYS, (0, 0))
    batch = [Reading(name, float(place == "a"), place) for name, place in KEYS]
    assert layout.values(batch) == [reading.value for reading in batch]
    assert layout.values(batch[::-1]) is None
    assert layout.values([batch[0], Reading(batch[1].series, 0.0, "elsewhere")]) is None
    assert layout.values([batch[0], Reading("else", 0.0, batch[1].where)]) is None
