"""Test ``vario.rules.double_softmax``: fires, stays silent, cannot know."""

from __future__ import annotations

import numpy as np
import pytest

from vario.nouns import NotApplicable
from vario.rules import double_softmax

N = np.arange(400)


def given(largest, smallest, off):
    return {"logits/largest": largest, "logits/smallest": smallest, "logits/sum_deviation": off}


def test_fires_and_gives_the_floor_of_the_loss(make):
    found = double_softmax.check(make(400, given(1.0, 0.0, 1e-7)))
    floor = next(e for e in found.evidence if e.name == "lowest reachable loss").value
    assert found.severity == "error"
    assert floor == pytest.approx(1.4612, abs=1e-4)  # ln(e + 9) - 1
    few = double_softmax.check(
        make(400, {k: (N[:3], np.full(3, v)) for k, v in given(0.9, 0.02, 1e-3).items()})
    )
    assert few is not None


def test_fires_for_probabilities_in_nll_loss_with_its_own_floor(make):
    found = double_softmax.check(make(400, given(1.0, 0.0, 1e-7) | {"loss/train": -0.8}))
    assert next(e for e in found.evidence if e.name == "lowest reachable loss").value == -1


def test_fires_for_a_sigmoid_before_a_loss_that_has_one(make):
    two = {"batch/class_counts": (N, np.full((400, 2), 32.0))}
    assert double_softmax.check(make(400, given(0.9, 0.0, 0.4) | two)).confidence < 0.9
    assert double_softmax.check(make(400, given(0.9, -0.1, 0.4) | two)) is None


def test_silent_on_logits_and_on_log_probabilities(make):
    assert double_softmax.check(make(400, given(0.9, 0.1, 0.5))) is None
    assert double_softmax.check(make(400, given(5.0, -4.0, 3.0))) is None
    assert double_softmax.check(make(400, given(-0.1, -9.0, 30.0))) is None
    once = {"logits/largest": np.where(N == 200, 1.5, 1.0)}
    assert double_softmax.check(make(400, given(1.0, 0.0, 1e-7) | once)) is None


def test_cannot_know_from_few_readings_or_without_classes(make):
    with pytest.raises(NotApplicable, match="fewer than 3"):
        double_softmax.check(make(400))
    with pytest.raises(NotApplicable, match="fewer than 3"):
        double_softmax.check(make(400, given(np.nan, 0.0, 0.0)))
    with pytest.raises(NotApplicable, match="no classes"):
        double_softmax.check(make(400, given(1.0, 0.0, 0.0) | {"batch/class_counts": None}))


def test_the_graph_decides_where_it_was_seen(make):
    walked = given(30.0, -40.0, 5.0) | {"logits/doubled": 1.0}
    assert double_softmax.check(make(400, walked)).confidence > 0.95
    assert double_softmax.check(make(400, given(30.0, -40.0, 5.0) | {"logits/doubled": 0.0})) is None


def test_the_graph_suffices_for_a_single_output(make):
    """One logit per example has no rows that could sum to 1."""
    one = {"logits/doubled": 1.0, "batch/class_counts": (N, np.tile([20.0, 12.0], (400, 1)))}
    found = double_softmax.check(make(400, one))
    floor = next(e for e in found.evidence if e.name == "lowest reachable loss").value
    assert floor == pytest.approx((20 * np.log(2) + 12 * np.log(1 + np.exp(-1))) / 32)
