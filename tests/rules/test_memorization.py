"""Test ``vario.rules.memorization``: fires, stays silent, cannot know."""

from __future__ import annotations

import numpy as np
import pytest

from vario.nouns import NotApplicable
from vario.rules import memorization

N = np.arange(400)
PASSES = np.arange(39, 400, 40)


def accuracies(train, unseen, examples=1000.0):
    return {
        "accuracy/train": train,
        ("eval/accuracy", "loader 1"): (PASSES, np.full(10, unseen)),
        ("eval/examples", "loader 1"): (PASSES, np.full(10, examples)),
    }


def test_fires_with_the_mean_score_and_its_interval(make):
    found = memorization.check(make(400, accuracies(1.0, 0.6)))
    assert (found.severity, found.steps) == ("warning", (359, 399))
    score = found.evidence[0]
    assert score.value == pytest.approx(0.4)
    assert score.low == pytest.approx(0.37, abs=0.01)
    assert memorization.check(make(400, accuracies(1.0, 0.85))).severity == "advice"


def test_silent_on_a_small_gap_on_few_examples_and_before_all_is_fitted(make):
    assert memorization.check(make(400, accuracies(1.0, 0.95))) is None
    assert memorization.check(make(400, accuracies(1.0, 0.85, examples=20.0))) is None
    assert memorization.check(make(400, accuracies(0.8, 0.5))) is None


def test_works_on_one_evaluation_and_rare_readings(make):
    once = accuracies(1.0, 0.6) | {
        ("eval/accuracy", "loader 1"): ([399], [0.6]),
        ("eval/examples", "loader 1"): ([399], [1000.0]),
        "accuracy/train": (N[::90], np.ones(5)),
    }
    assert memorization.check(make(400, once)).steps[0] == 269  # older readings bound it from below
    seldom = once | {"accuracy/train": ([380], [1.0])}
    assert memorization.check(make(400, seldom)) is None  # a loss of 0.2 vouches for 0.7 only
    found = memorization.check(make(400, seldom | {"loss/train": 0.01}))
    assert found.evidence[1].value == pytest.approx(1 - 0.01 / np.log(2))
    with pytest.raises(NotApplicable, match="64 training examples"):
        memorization.check(make(400, seldom | {"loss/train": None}))
    assert memorization.check(make(400, once | {"accuracy/train": (N[::20], np.ones(20))})) is not None


def test_cannot_know_without_either_accuracy(make):
    with pytest.raises(NotApplicable, match="no evaluation"):
        memorization.check(make(400, {"accuracy/train": 1.0}))
    with pytest.raises(NotApplicable, match="accuracy/train"):
        memorization.check(make(400, accuracies(np.nan, 0.6) | {"loss/train": None}))


def test_sorted_batches_say_nothing_of_memory(make):
    one = np.zeros((400, 10))
    one[N, N // 40] = 64
    with pytest.raises(NotApplicable, match="sorted by class"):
        memorization.check(make(400, accuracies(1.0, 0.6) | {"batch/class_counts": (N, one)}))


def test_passes_before_it_was_known_that_their_rows_are_of_training_are_not_held_out(make):
    early = {
        ("eval/accuracy", ""): (PASSES[:2], np.full(2, 0.4)),
        ("eval/examples", ""): (PASSES[:2], np.full(2, 1000.0)),
    }
    assert memorization.check(make(400, early | {"accuracy/train": 1.0})) is not None
    later = {
        (name, "training data"): (PASSES[2:], np.full(8, value))
        for name, value in (("eval/accuracy", 0.99), ("eval/examples", 1000.0), ("eval/seen_share", 1.0))
    }
    with pytest.raises(NotApplicable, match="every evaluation was of rows that training had seen"):
        memorization.check(make(400, early | later | {"accuracy/train": 1.0}))
