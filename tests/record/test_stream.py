from __future__ import annotations

import math

import numpy as np
import pytest

from vario.nouns import NotApplicable
from vario.record.memory import record_of
from vario.record.stream import Event

RECORD = record_of(
    {
        "loss/train": (range(10), np.arange(10.0)),
        ("gradient/norm", "b"): ([0, 5], [1.0, 2.0]),
        ("gradient/norm", "a"): ([5], [3.0]),
        "h": ([0, 1], [[1, 2], [3, 4]]),
    },
    events=[Event("epoch", 3, stream="model"), Event("notice", 4), Event("epoch", 5, stream="other")],
)


def test_names_and_places_in_the_order_of_reading() -> None:
    assert RECORD.names() == ("loss/train", "gradient/norm", "h")
    assert RECORD.wheres("gradient/norm") == ("b", "a")
    assert RECORD.wheres("nothing") == ()


def test_nothing_is_an_empty_series() -> None:
    steps, values = RECORD.series("nothing")
    assert steps.shape == values.shape == (0,)
    assert math.isnan(RECORD.last("nothing")) and RECORD.last("gradient/norm", "b") == 2.0
    with pytest.raises(ValueError, match="2 values per step"):
        RECORD.last("h")


def test_need_says_what_is_missing() -> None:
    assert len(RECORD.need("loss/train", 10)[0]) == 10
    with pytest.raises(NotApplicable, match=r"^10 readings of loss/train; 11 are needed$"):
        RECORD.need("loss/train", 11)
    with pytest.raises(NotApplicable, match=r"^1 reading of gradient/norm at a; 2 are needed$"):
        RECORD.need("gradient/norm", 2, "a")
    with pytest.raises(NotApplicable, match=r"^0 readings of nothing; 1 is needed$"):
        RECORD.need("nothing")


def test_events_of_the_stream_and_of_the_run() -> None:
    assert [event.step for event in RECORD.events()] == [3, 4]
    assert [event.step for event in RECORD.events("epoch")] == [3]


def test_overview_bounds_the_mean_and_leaves_nan_out() -> None:
    values = np.random.default_rng(0).standard_normal(1_003)
    values[100:400] = np.nan
    values[7], values[900] = np.inf, np.nan
    record = record_of({"x": (3 * np.arange(1_003), values)})
    last, low, mean, high = record.overview("x", bins=10)
    assert len(last) == 10 and last[-1] == 3 * 1_002
    edges = [int(e) for e in np.linspace(0, 1_003, 11)]
    for i in range(10):
        part = values[edges[i] : edges[i + 1]]
        part = part[~np.isnan(part)]
        if part.size:
            assert (low[i], high[i]) == (part.min(), part.max())
            assert mean[i] == pytest.approx(part.mean())
        else:
            assert np.isnan([low[i], mean[i], high[i]]).all()
    assert np.isnan(mean).sum() >= 2


def test_overview_of_few_points_is_the_points_and_of_vectors_goes_by_column() -> None:
    last, low, mean, high = RECORD.overview("loss/train")
    for got in (last, low, mean, high):
        np.testing.assert_array_equal(got, np.arange(10.0))
    wide = record_of({"h": (range(100), np.arange(200.0).reshape(100, 2))})
    _, low, mean, high = wide.overview("h", bins=4)
    np.testing.assert_array_equal(low[1], [50, 51])
    np.testing.assert_array_equal(mean[1], [74, 75])
    np.testing.assert_array_equal(high[1], [98, 99])
    assert len(RECORD.overview("nothing")[0]) == 0
    with pytest.raises(ValueError, match="bins=0"):
        RECORD.overview("h", bins=0)


def test_once_is_found_once_in_a_view_that_keeps_and_anew_in_a_record_that_may_grow() -> None:
    found: list[int] = []

    def find() -> int:
        found.append(len(found))
        return found[-1]

    view = RECORD.keeping()
    assert [view.once("a", find), view.once("b", find), view.once("a", find)] == [0, 1, 0]
    assert [RECORD.once("a", find), RECORD.once("a", find)] == [2, 3]
    assert RECORD.keeping().once("a", find) == 4  # each look is its own


def test_a_view_that_keeps_reads_what_its_record_reads() -> None:
    view = RECORD.keeping()
    assert view.names() == RECORD.names() and view.step_count == RECORD.step_count
    assert view.events() == RECORD.events() and view.stream == RECORD.stream
