"""Test ``vario.rules.delayed_generalization``: fires, stays silent, cannot know."""

from __future__ import annotations

import numpy as np
import pytest

from vario.nouns import NotApplicable
from vario.rules import delayed_generalization

N = np.arange(400)
PASSES = np.arange(39, 400, 40)


def run(fitted, unseen):
    return {
        "accuracy/train": np.where(N < fitted, 0.5, 1.0),
        ("eval/accuracy", "loader 1"): (PASSES, np.asarray(unseen, float)),
        ("eval/examples", "loader 1"): (PASSES, np.full(10, 1000.0)),
    }


def test_fires_with_both_times(make):
    found = delayed_generalization.check(make(400, run(50, np.where(PASSES < 250, 0.1, 0.95))))
    assert (found.severity, found.steps) == ("advice", (50, 279))
    assert found.evidence[0].value == pytest.approx(0.85)


def test_the_evaluation_of_the_weights_that_first_fitted_counts(make):
    """Steps of full batches, an evaluation after each: fitted after one, general after two."""
    steps = np.arange(12)
    seen = {
        "accuracy/train": (steps, np.where(steps < 1, 0.5, 1.0)),
        ("eval/accuracy", "loader 1"): (steps, np.where(steps < 1, 0.5, 0.99)),
        ("eval/examples", "loader 1"): (steps, np.full(12, 500.0)),
    }
    found = delayed_generalization.check(make(12, seen))
    assert [e.value for e in found.evidence[1:]] == [1, 2]
    assert (
        delayed_generalization.check(
            make(12, seen | {("eval/accuracy", "loader 1"): (steps, np.full(12, 0.99))})
        )
        is None
    )


def regression(unseen):
    return {
        "loss/train": 2 * np.exp(-N / 10),
        "accuracy/train": None,
        "batch/class_counts": None,
        ("eval/loss", "loader 1"): (PASSES, np.asarray(unseen, float)),
    }


def test_of_a_regression_the_losses_are_compared(make):
    found = delayed_generalization.check(make(400, regression(2 * np.exp(-PASSES / 50))))
    by_name = {e.name: e.value for e in found.evidence}
    # a tenth after 23 steps by a running mean of five; of 133 on held-out data, seen at the fourth pass
    assert by_name["steps until training was fitted"] == pytest.approx(23, abs=3)
    assert by_name["steps until held-out data followed"] == 160
    assert delayed_generalization.check(make(400, regression(2 * np.exp(-PASSES / 10)))) is None
    assert delayed_generalization.check(make(400, regression(np.full(10, 1.0)))) is None  # it never follows
    with pytest.raises(NotApplicable, match="never fell"):
        delayed_generalization.check(make(400, regression(np.full(10, 1.0)) | {"loss/train": 2.0}))
    with pytest.raises(NotApplicable, match="no evaluation"):
        delayed_generalization.check(make(400, regression([]) | {("eval/loss", "loader 1"): None}))


def test_silent_where_both_rise_together_or_the_rise_is_small(make):
    assert delayed_generalization.check(make(400, run(150, np.where(PASSES < 150, 0.1, 0.95)))) is None
    assert delayed_generalization.check(make(400, run(200, np.where(PASSES < 260, 0.1, 0.95)))) is None
    assert delayed_generalization.check(make(400, run(50, np.linspace(0.9, 0.97, 10)))) is None


def test_cannot_know_before_training_is_fitted_or_without_evaluations(make):
    with pytest.raises(NotApplicable, match="never reached"):
        delayed_generalization.check(make(400, run(399, np.full(10, 0.9))))
    with pytest.raises(NotApplicable, match="1 evaluations since"):
        delayed_generalization.check(make(400, run(380, np.full(10, 0.9))))
    with pytest.raises(NotApplicable, match="0 finite"):
        delayed_generalization.check(make(400, {"accuracy/train": np.nan}))
