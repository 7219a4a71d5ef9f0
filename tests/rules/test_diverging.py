"""Test ``vario.rules.diverging``: fires, stays silent, cannot know."""

from __future__ import annotations

import numpy as np
import pytest

from vario.nouns import NotApplicable
from vario.record import Event
from vario.rules.diverging import check


def parabola(rate, steps, curvature=1.0, start=1.0):
    """Loss of gradient descent on c x^2 / 2: x is multiplied by 1 - rate * c at each step."""
    with np.errstate(over="ignore"):
        return 0.5 * curvature * (start * (1 - rate * curvature) ** np.arange(steps)) ** 2


def test_fires_where_gradient_descent_leaves_a_parabola(make):
    found = check(make(60, {"loss/train": parabola(2.2, 60)}))
    assert found.severity == "error"
    end = next(e for e in found.evidence if e.name == "loss at the end")
    assert end.value > end.limit and end.low <= end.value <= end.high
    # 0.5 * 1.44 ** k passes 1.5 times the median of its first three readings, 0.72, at k = 3
    assert found.steps == (3, 59)


def test_fires_where_the_loss_grows_into_infinity_and_names_the_step(make):
    loss = parabola(3.0, 2000)
    first = int(np.argmax(~np.isfinite(loss)))
    found = check(make(2000, {"loss/train": loss}))
    assert 0 < first == found.steps[0]


def test_silent_on_a_healthy_run_and_just_below_the_limit_of_stability(make):
    assert check(make()) is None
    assert check(make(60, {"loss/train": parabola(1.9, 60)})) is None


def test_silent_where_a_loss_turns_nan_at_once_with_nothing_growing(make):
    def break_at(steps, values):
        return steps, np.where(steps >= 150, np.nan, values)

    record = make(400, {"loss/train": break_at, "gradient/norm": break_at})
    assert check(record) is None


def test_silent_on_a_constant_loss(make):
    assert check(make(50, {"loss/train": 2.3})) is None


def test_cannot_know_from_two_steps(make):
    with pytest.raises(NotApplicable, match="2 readings of loss/train; 3"):
        check(make(2))


def test_what_the_optimizer_climbs_may_rise_and_must_not_fall(make):
    up = Event("optimizer", 0, "", {"class": "Adam", "groups": [{"lr": 0.02, "maximize": True}]})
    likelihood = np.linspace(-3.0, 4.0, 200)
    assert check(make(200, {"loss/train": likelihood}, events=[up])) is None
    assert check(make(200, {"loss/train": likelihood})) is not None
    assert check(make(200, {"loss/train": -likelihood}, events=[up])) is not None


def test_a_loss_that_rises_from_below_zero_up_to_it_does_not_run_away(make):
    """The loss of a policy begins at minus a tenth, by chance, and ends where there is nothing to gain."""
    settles = -0.1 * np.exp(-np.arange(400) / 60) + 0.01 * np.random.default_rng(4).standard_normal(400)
    assert check(make(400, {"loss/train": settles, "batch/class_counts": None})) is None
    away = settles + np.maximum(np.arange(400) - 300, 0) / 100
    assert check(make(400, {"loss/train": away, "batch/class_counts": None})).severity == "error"
