"""Curves in a page: spikes survive, bytes are bounded, distributions keep their quantiles."""

from __future__ import annotations

import base64

import numpy as np
import pytest

from vario.record import record_of
from vario.report.curves import EDGES, SHARES, Curves, distribution, layer_buckets


def numbers(text: str, kind: str = "<f4") -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), kind)


def test_a_spike_of_one_step_in_a_hundred_thousand_is_still_there() -> None:
    values = np.ones(100_000)
    values[54_321] = 77.0
    curves = Curves()
    curves.add(record_of({"loss/train": (np.arange(100_000), values)}), "loss/train")
    curve = curves.curves[0]
    low, mean, high = (numbers(curve[part]) for part in ("low", "mean", "high"))
    steps = numbers(curves.grids[curve["grid"]], "<i4")
    assert len(mean) == len(steps) == 1500 and steps[-1] == 99_999
    assert high.max() == 77 and high.argmax() == np.searchsorted(steps, 54_321)
    assert low.min() == 1 and mean.max() < 3


def test_a_short_series_travels_as_it_is_and_once() -> None:
    record = record_of({"a/b": ([0, 2, 5], [1.0, np.nan, 3e38]), "a/c": ([0, 2, 5], [1.0, 2.0, np.inf])})
    curves = Curves()
    assert [curves.add(record, "a/b"), curves.add(record, "a/c"), curves.add(record, "a/b")] == [0, 1, 0]
    assert curves.add(record, "a/nothing") == -1
    assert "low" not in curves.curves[0] and len(curves.grids) == 1
    assert np.array_equal(numbers(curves.curves[0]["mean"]), np.float32([1, np.nan, 3e38]), equal_nan=True)
    assert curves.highest([0]) == 3e38 and curves.highest([1]) == 2


def test_a_share_is_one_count_over_another() -> None:
    series = {("dead", "fc"): ([0, 1], [2.0, 8.0]), ("all", "fc"): ([0, 1], [16.0, 16.0])}
    curves = Curves()
    curves.share(record_of(series), "dead", "all", "fc")
    assert numbers(curves.curves[0]["mean"]).tolist() == [0.125, 0.5]


@pytest.mark.parametrize("series", [1, 60, 500, 1800])
def test_layer_series_fit_their_part_of_the_page(series: int) -> None:
    bins = layer_buckets(series)
    assert 40 <= bins <= 400
    assert series * bins * 12 <= 1_500_000 or bins == 40


def test_a_distribution_has_the_quantiles_of_what_was_counted() -> None:
    rng = np.random.default_rng(0)
    draws = 10 ** rng.normal(-3, 0.8, (40, 5000))
    counts = np.array([np.histogram(np.log10(row), EDGES)[0] for row in draws], float)
    found = distribution(record_of({"gradient/log_histogram": (np.arange(40) * 10, counts)}), "", columns=8)
    assert found is not None and len(found.steps) == 8 and found.steps[-1] == 390
    expected = np.quantile(np.log10(draws), SHARES)
    assert np.abs(found.quantiles - expected).max() < 0.15  # bins are half a decade wide
    assert found.density.max(axis=1).tolist() == [255] * 8
    filled = np.flatnonzero(counts.sum(axis=0))
    assert found.first_edge == EDGES[filled[0]] and found.density.shape[1] == filled[-1] - filled[0] + 1


def test_a_column_in_which_nothing_was_counted_has_no_quantile() -> None:
    counts = np.zeros((2, 64))
    counts[1, 40] = 9
    found = distribution(record_of({"gradient/log_histogram": ([0, 1], counts)}), "", columns=8)
    assert found is not None
    assert np.isnan(found.quantiles[0]).all() and found.density[0].max() == 0
    assert EDGES[40] <= found.quantiles[1, 2] <= EDGES[41]
    assert (
        distribution(record_of({"gradient/log_histogram": ([0], np.zeros((1, 64)))}), "", columns=8) is None
    )
