"""Test ``vario.rules.softmax_collapse``: fires, stays silent, cannot know."""

from __future__ import annotations

import numpy as np
import pytest

from vario.nouns import NotApplicable
from vario.rules import softmax_collapse

N = np.arange(400)


COLLAPSED = {"examples/zero_loss_share": np.clip(N / 500, 0, 1), "accuracy/train": 1.0}


def test_fires_with_the_step_from_which_it_holds(make):
    found = softmax_collapse.check(make(400, COLLAPSED))
    assert found.severity == "advice"
    assert found.steps == (151, 399)
    assert found.evidence[0].value == pytest.approx(0.76, abs=0.02)


def test_is_a_warning_where_something_was_left_to_learn(make):
    evaluated = {("eval/accuracy", "loader 1"): 0.2, ("eval/examples", "loader 1"): 500.0}
    assert softmax_collapse.check(make(400, COLLAPSED | evaluated)).severity == "warning"
    evaluated = {("eval/accuracy", "loader 1"): 0.97, ("eval/examples", "loader 1"): 500.0}
    assert softmax_collapse.check(make(400, COLLAPSED | evaluated)).severity == "advice"


def test_silent_while_examples_are_wrong_or_few_are_exactly_zero(make):
    assert softmax_collapse.check(make(400, COLLAPSED | {"accuracy/train": 0.9})) is None
    assert softmax_collapse.check(make(400, COLLAPSED | {"examples/zero_loss_share": 0.2})) is None


def test_cannot_know_from_few_or_broken_readings(make):
    with pytest.raises(NotApplicable, match="0 readings"):
        softmax_collapse.check(make(400))
    with pytest.raises(NotApplicable, match="0 finite readings"):
        softmax_collapse.check(make(400, {"examples/zero_loss_share": np.nan}))
