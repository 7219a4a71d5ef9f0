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
