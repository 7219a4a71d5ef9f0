"""Test ``vario.rules.non_finite_input``: fires, stays silent, cannot know."""

from __future__ import annotations

import numpy as np
import pytest

from vario.nouns import NotApplicable
from vario.rules import non_finite_input

N = np.arange(400)


BAD = {"input/non_finite": np.where(N % 62 == 40, 2.0, 0.0)}


def test_fires_as_an_error_where_the_run_breaks(make):
    broken = {"loss/train": lambda s, v: (s, np.where(s >= 40, np.nan, v))}
    found = non_finite_input.check(make(400, BAD | broken))
    assert (found.severity, found.steps[0]) == ("error", 40)
    assert [e.value for e in found.evidence[:2]] == [40, 2]
    assert found.evidence[2].low < 6 / 400 < found.evidence[2].high


def test_fires_where_the_batch_that_broke_the_run_was_not_read(make):
    sampled = {"input/non_finite": (N[::10], np.where(N[::10] == 250, 1.0, 0.0))}
    broken = {"loss/train": lambda s, v: (s, np.where(s >= 61, np.nan, v))}
    found = non_finite_input.check(make(400, sampled | broken))
    assert (found.severity, found.steps) == ("error", (250, 250))


def test_broken_targets_count_too_and_a_nan_count_is_no_zero(make):
    assert non_finite_input.check(make(400, {"target/non_finite": np.where(N == 3, 1.0, 0.0)})).steps == (
        3,
        3,
    )
    assert non_finite_input.check(make(400, {"input/non_finite": np.where(N == 3, np.nan, 0.0)})).steps == (
        3,
        3,
    )


def test_is_advice_where_training_bears_it(make):
    assert non_finite_input.check(make(400, BAD)).severity == "advice"


def test_silent_on_clean_data_even_if_the_run_breaks(make):
    broken = {"loss/train": np.nan}
    assert non_finite_input.check(make(400, {"input/non_finite": 0.0} | broken)) is None


def test_cannot_know_without_floating_data(make):
    with pytest.raises(NotApplicable, match="no floating inputs"):
        non_finite_input.check(make(400))
