"""Test ``vario.rules.holdout_overuse``: fires, stays silent, cannot know."""

from __future__ import annotations

import numpy as np
import pytest

from vario.nouns import NotApplicable
from vario.rules import holdout_overuse

N = np.arange(400)
PASSES = np.arange(39, 400, 40)


MANY = np.arange(9, 400, 10)


def two_sets(used, fresh, examples=2000.0):
    return {
        ("eval/accuracy", "loader 1"): (MANY, np.full(40, used)),
        ("eval/examples", "loader 1"): (MANY, np.full(40, examples)),
        ("eval/accuracy", "loader 2"): ([399], [fresh]),
        ("eval/examples", "loader 2"): ([399], [examples]),
    }


def test_fires_where_the_used_set_flatters(make):
    found = holdout_overuse.check(make(400, two_sets(0.80, 0.70)))
    assert (found.severity, found.where) == ("advice", ("loader 1", "loader 2"))
    assert found.evidence[0].value == pytest.approx(0.1)


def test_silent_where_both_agree_within_their_noise(make):
    assert holdout_overuse.check(make(400, two_sets(0.80, 0.79))) is None
    assert holdout_overuse.check(make(400, two_sets(0.80, 0.70, examples=50.0))) is None


def test_cannot_know_without_a_used_and_a_fresh_set(make):
    with pytest.raises(NotApplicable, match="no held-out set"):
        holdout_overuse.check(make(400))
    both = two_sets(0.8, 0.7) | {("eval/accuracy", "loader 2"): (MANY, np.full(40, 0.7))}
    with pytest.raises(NotApplicable, match="40 times, another 40"):
        holdout_overuse.check(make(400, both))
