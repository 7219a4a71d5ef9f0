"""Test ``vario.rules.unshuffled_data``: fires, stays silent, cannot know."""

from __future__ import annotations

import numpy as np
import pytest

from vario.nouns import NotApplicable
from vario.record import Event
from vario.rules import unshuffled_data

N = np.arange(400)
PASSES = np.arange(39, 400, 40)


def by_class(purity, size=64, classes=10):
    """Batches that hold ``purity`` of one class, in turns, and the rest evenly."""
    counts = np.full((400, classes), size * (1 - purity) / classes)
    counts[N, N * classes // 400] += size * purity
    return {"batch/class_counts": (N, counts)}


def loader(shuffle, length=4000):
    data = {
        "sampler": "RandomSampler" if shuffle else "SequentialSampler",
        "shuffle": shuffle,
        "length": length,
    }
    return [
        Event("loader", 0, "loader 0", data | {"batch_size": 64}),
        Event("epoch", 0, "loader 0", {"epoch": 0}),
    ]


SAME = {"data/same_order": np.where(N < 62, 0.0, 1.0)}


def test_fires_on_batches_sorted_by_class(make):
    found = unshuffled_data.check(make(400, by_class(1.0)))
    assert (found.severity, found.evidence[0].value) == ("error", pytest.approx(1.0))
    assert unshuffled_data.check(make(400, by_class(0.65))).severity == "warning"


def test_fires_on_sampled_readings_and_on_sorted_targets(make):
    rare = {"batch/class_counts": tuple(a[::50] for a in by_class(1.0)["batch/class_counts"])}
    assert unshuffled_data.check(make(400, rare)) is not None
    ramp = {"batch/class_counts": None, "target/mean": np.linspace(-2, 2, 400), "target/std": 0.1}
    assert unshuffled_data.check(make(400, ramp, events=loader(False))).severity == "error"
    with pytest.raises(NotApplicable):
        unshuffled_data.check(make(400, ramp, events=loader(True)))


def test_targets_sorted_within_a_table_are_seen_without_a_loader(make):
    table = [Event("table", 0, "", {"rows": 2560, "copies": 0})]
    none = {"batch/class_counts": None, "target/std": 0.1}
    turns = none | {"target/mean": np.linspace(-2, 2, 40)[N % 40]}
    assert unshuffled_data.check(make(400, turns, events=table)).severity == "error"
    drawn = none | {"target/mean": np.random.default_rng(0).normal(0, 0.1 / 8, 400)}
    drifting = none | {"target/mean": np.linspace(-2, 2, 400)}
    for mixed in (drawn, drifting):
        assert unshuffled_data.check(make(400, mixed, events=table)) is None
    # Rows of which nobody knows anything tell of their order alone.
    assert unshuffled_data.check(make(400, turns)).severity == "advice"


def test_the_same_order_each_epoch_is_advice(make):
    assert unshuffled_data.check(make(400, SAME, events=loader(False))).severity == "advice"
    assert unshuffled_data.check(make(400, SAME)).severity == "advice"


def batches(order):
    """No loader, no classes counted; the mean of the inputs at each step is that of the batch it used."""
    means = np.random.default_rng(3).standard_normal(400)
    return {"batch/class_counts": None, "input/mean": means[order]}


def test_without_a_loader_batches_are_known_again_by_their_mean(make):
    at = N[np.random.default_rng(1).random(400) < 0.08]  # 22 readings have an equal one
    found = unshuffled_data.check(make(400, batches(at % 17), at=at))
    assert (found.severity, found.evidence[0].value) == ("advice", pytest.approx(1.0))
    assert unshuffled_data.check(make(400, batches(N % 17))) is not None
    drawn = np.random.default_rng(2).integers(0, 17, 400)  # equal batches that return at any time
    for order in (drawn, N, N % 1, N % 4):  # or never, or are all there is, or nearly all
        with pytest.raises(NotApplicable, match="fewer than 5"):
            unshuffled_data.check(make(400, batches(order)))


def test_silent_on_shuffled_batches_and_where_one_batch_is_all(make):
    assert unshuffled_data.check(make(400, {"data/same_order": 0.0}, events=loader(True))) is None
    assert unshuffled_data.check(make(400, SAME, events=loader(False, length=64))) is None
    assert unshuffled_data.check(make(400, by_class(0.2))) is None


def test_cannot_know_without_classes_and_a_second_epoch(make):
    with pytest.raises(NotApplicable, match="fewer than 5"):
        unshuffled_data.check(make(400, {"batch/class_counts": None}))
    with pytest.raises(NotApplicable, match="fewer than 5"):
        unshuffled_data.check(
            make(3, {"batch/class_counts": (N[:3], np.array([[64.0, 0], [64, 0], [0, 64]]))})
        )
