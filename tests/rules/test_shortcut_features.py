"""Test ``vario.rules.shortcut_features``: fires, stays silent, cannot know."""

from __future__ import annotations

import numpy as np
import pytest

from vario.nouns import NotApplicable
from vario.rules import shortcut_features

N = np.arange(400)
PASSES = np.arange(39, 400, 40)


def evaluated(plain, **without):
    values = {("eval/accuracy", "loader 1"): plain, ("eval/examples", "loader 1"): 1000.0}
    values |= {("shortcut/shuffled_accuracy", name): value for name, value in without.items()}
    return {key: (PASSES, np.full(10, value)) for key, value in values.items()}


def test_fires_where_one_feature_carries_the_answer(make):
    found = shortcut_features.check(make(400, evaluated(0.95, colour=0.1, shape=0.94)))
    assert (found.severity, found.where) == ("warning", ("colour",))


def test_a_tenth_of_what_was_learned_is_the_limit(make):
    found = shortcut_features.check(make(400, evaluated(0.95, colour=0.1)))
    by_name = {one.name: one for one in found.evidence}
    guess = by_name["held-out accuracy"].limit
    assert guess == pytest.approx(0.1, abs=0.01)  # ten classes, nearly alike
    assert by_name["accuracy without it"].limit == pytest.approx(guess + 0.1 * (0.95 - guess))
    assert shortcut_features.check(make(400, evaluated(0.95, colour=0.2))) is None


def test_silent_where_the_answer_rests_on_several_or_little_was_learned(make):
    assert shortcut_features.check(make(400, evaluated(0.95, colour=0.6, shape=0.5))) is None
    assert shortcut_features.check(make(400, evaluated(0.2, colour=0.1))) is None


def test_cannot_know_without_shuffled_features_or_classes(make):
    with pytest.raises(NotApplicable, match="shortcut/shuffled_accuracy"):
        shortcut_features.check(make(400, evaluated(0.95)))
    with pytest.raises(NotApplicable, match="no classes"):
        shortcut_features.check(make(400, evaluated(0.95, colour=0.1) | {"batch/class_counts": None}))
