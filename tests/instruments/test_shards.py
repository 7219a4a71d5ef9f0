from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.instruments.sample import draw, read
from vario.capture.shards import Shards as Held
from vario.instruments.shards import Shards


def held(names: str, shares: list[float], params: list[Tensor], before: list[Tensor]) -> Held:
    return Held(list(names), shares, params, before)


def test_the_shares_of_two_processes_add_up_to_the_whole() -> None:
    """One parameter is cut in two, of which one part is empty; another is held whole by both."""
    before, after, grad = (draw(7, seed=seed) for seed in (1, 2, 3))
    found = []
    for part in (slice(0, 7), slice(7, 7)):
        both = [after[part], after], [before[part], before]
        grads = [grad[part], grad]
        found.append(read(Shards(), shards=held("ab", [1.0, 0.5], *both), shard_grads=grads))
    assert set(found[0]) == set(found[1])
    for series, tensor in (
        ("shard/gradient", grad),
        ("shard/weight", after),
        ("shard/update", after - before),
        ("shard/weight_before", before),
    ):
        square = float(tensor.double().square().sum())
        for where, times in (("a", 1), ("b", 1), ("", 2)):
            assert sum(one[series, where] for one in found) == pytest.approx(times * square, rel=1e-6)


def test_sums_and_counts_are_of_the_entries_alone() -> None:
    """A part of three entries, of which one only makes all parts equally long; a second that two hold."""
    part, both = torch.tensor([2.0, 0.0, 9.0]), torch.tensor([-4.0, 1.0])
    cut = Held(["a", "b"], [1.0, 0.5], [part, both], [part, both], padded=[1, 0])
    found = read(Shards(), shards=cut, shard_grads=[part, both])
    assert found["shard/gradient_moments", "a"] == pytest.approx((2, 2, 2, 2, 1))
    assert found["shard/gradient_moments", "b"] == pytest.approx((1, -1.5, 6.25, 4, 0))
    # three entries in all: 2, 0 and half of each of -4, 1; squares about their mean of 1/6
    about = (2 - 1 / 6) ** 2 + (1 / 6) ** 2 + ((4 + 1 / 6) ** 2 + (1 - 1 / 6) ** 2) / 2
    assert found["shard/gradient_moments", ""] == pytest.approx((3, 0.5, about, 4, 1))
    counts = found["shard/gradient_log_histogram", ""]
    assert sum(counts) == 2 and sorted(set(counts)) == [0, 0.5, 1.5]
    assert found["shard/weight_moments", "a"] == found["shard/gradient_moments", "a"]


def test_entries_that_are_not_finite_are_counted_once() -> None:
    grad = torch.tensor([1.0, torch.nan])
    one = read(Shards(), shards=held("a", [0.5], [draw(2)], [draw(2)]), shard_grads=[grad])
    assert one["shard/gradient_non_finite", "a"] == 0.5  # two processes hold it alike
    assert one["shard/gradient", "a"] != one["shard/gradient", "a"]


def test_a_part_that_does_not_add_up_leaves_the_whole_unknown() -> None:
    part = torch.tensor([3.0, 4.0])
    found = read(
        Shards(), shards=held("ab", [0.5, 0.0], [part, part], [part, part]), shard_grads=[part, part]
    )
    assert {where for _, where in found} == {"a"} and found["shard/gradient", "a"] == 12.5


def test_it_is_silent_where_all_is_whole_and_without_a_gradient() -> None:
    assert read(Shards()) == {}
    found = read(Shards(), shards=held("a", [1.0], [draw(2)], [draw(2)]), shard_grads=[None])
    assert not any(series.startswith("shard/gradient") for series, _ in found)
