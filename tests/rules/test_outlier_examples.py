"""Test ``vario.rules.outlier_examples``: fires, stays silent, cannot know."""

from __future__ import annotations

import numpy as np
import pytest

from vario.nouns import NotApplicable
from vario.rules import outlier_examples

N = np.arange(400)
PASSES = np.arange(39, 400, 40)


def losses(largest, ninth=2.7, mean=1.0):
    deciles = np.tile(np.linspace(0, ninth, 11), (400, 1))
    deciles[:, -2], deciles[:, -1] = ninth, largest
    return {"examples/loss_quantiles": (N, deciles), "loss/train": mean, "batch/class_counts": None}


def test_fires_where_one_example_outweighs_its_batch(make):
    far = np.where(N % 3 == 0, 6400.0, 9.0)
    found = outlier_examples.check(make(400, losses(far, mean=np.where(N % 3 == 0, 101.0, 1.0))))
    assert found.severity == "warning"
    assert found.evidence[0].value == pytest.approx(1 / 3, abs=0.01)


def test_fires_on_a_code_for_missing_values(make):
    strange = {"input/largest": 3.0, "input/smallest": np.where(N == 200, -999.0, -3.0)}
    found = outlier_examples.check(make(400, strange))
    assert (found.severity, found.evidence[0].value) == ("advice", pytest.approx(333))


def test_silent_on_the_largest_of_normal_errors_and_on_classifiers(make):
    draw = np.random.default_rng(0).standard_normal((400, 64)) ** 2
    normal = {
        "examples/loss_quantiles": (N, np.quantile(draw, np.linspace(0, 1, 11), axis=1).T),
        "loss/train": draw.mean(axis=1),
        "batch/class_counts": None,
    }
    assert outlier_examples.check(make(400, normal)) is None
    classifier = losses(6400.0, ninth=1e-3, mean=101.0)
    classifier.pop("batch/class_counts")
    with pytest.raises(NotApplicable):
        outlier_examples.check(make(400, classifier))


def test_cannot_know_from_few_readings_or_small_batches(make):
    with pytest.raises(NotApplicable, match="fewer than 20"):
        outlier_examples.check(make(400))
    with pytest.raises(NotApplicable, match="fewer than 20"):
        outlier_examples.check(make(400, losses(6400.0, mean=101.0) | {"batch/size": 8.0}))
    with pytest.raises(NotApplicable, match="fewer than 20"):
        outlier_examples.check(make(400, losses(np.nan)))


def test_targets_that_stand_out_of_one_batch_are_seen_and_those_that_grow_are_not(
    make,
):
    one = {"target/std": np.where(np.arange(400) == 200, 150.0, 1.0)}
    found = outlier_examples.check(make(400, one))
    assert (found.severity, found.evidence[-1].value) == ("advice", 150.0)
    assert outlier_examples.check(make(400, {"target/std": np.geomspace(1, 1e4, 400)})) is None


def test_a_loss_by_hand_shows_them_as_steps_that_leave_no_trace(make):
    """Two batches of 17 hold one; too large a step leaves the losses after it high as well."""
    own = lambda values: {"batch/class_counts": None, "loss/train": values}  # noqa: E731
    found = outlier_examples.check(make(400, own(np.where(N % 17 % 14 == 3, 3000.0, 1.0))))
    assert (found.severity, found.evidence[-1].value) == ("advice", 3000.0)
    lasting = np.where(N % 17 < 3, 3000.0, 1.0)
    known_by_heart = np.where(N < 100, 1.0, np.where(N % 17 == 0, 3.0, 1e-3))
    for losses_ in (lasting, known_by_heart, np.where(N == 200, 3000.0, 1.0)):
        assert outlier_examples.check(make(400, own(losses_))) is None
