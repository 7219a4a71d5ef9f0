"""Test ``vario.rules.gradients_accumulate``: fires, stays silent, cannot know."""

from __future__ import annotations

import numpy as np
import pytest

from vario.nouns import NotApplicable
from vario.rules.gradients_accumulate import check


def test_fires_on_a_sum_that_is_never_cleared(make):
    """With equal gradients, k of k + 1 parts of the sum were carried into step k."""
    found = check(make(400, {"gradient/carried": lambda s, v: (s, s / (s + 1))}))
    assert found.severity == "error"
    assert found.steps[0] == 1
    assert next(e for e in found.evidence if e.name == "carried gradient").value > 0.99


def test_fires_where_the_sum_has_overflowed(make):
    carried = lambda s, v: (s, np.where(s < 10, s / (s + 1), np.where(s < 200, np.inf, np.nan)))  # noqa: E731
    assert check(make(400, {"gradient/carried": carried})) is not None


def test_silent_where_gradients_are_cleared_or_left_now_and_then(make):
    assert check(make()) is None
    assert check(make(400, {"gradient/carried": lambda s, v: (s, np.where(s % 4, 0.0, 0.9))})) is None


def test_silent_where_what_is_carried_is_nothing(make):
    assert check(make(400, {"gradient/carried": 1e-3})) is None


def test_cannot_know_from_three_steps(make):
    with pytest.raises(NotApplicable, match="3 readings of gradient/carried; 4"):
        check(make(3))


def test_silent_where_a_third_of_the_steps_carries(make):
    """A scaler that skips, or a loop that clears late, leaves some; most steps must start clean."""
    third = {"gradient/carried": lambda s, v: (s, np.where(s % 3 == 0, 0.9, 0.2 * (s % 3 == 1)))}
    assert check(make(400, {"gradient/carried": lambda s, v: (s, np.where(s % 3 == 0, 0.9, 0.0))})) is None
    assert check(make(400, third)) is not None
