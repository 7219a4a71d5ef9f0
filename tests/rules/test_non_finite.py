"""Test ``vario.rules.non_finite``: fires, stays silent, cannot know."""

from __future__ import annotations

import numpy as np
import pytest

from vario.nouns import NotApplicable
from vario.record import Event, record_of
from vario.rules import non_finite

N = np.arange(400)


def broken_from(step):
    return lambda steps, values: (steps, np.where(steps >= step, np.nan, values))


@pytest.mark.parametrize("step", [0, 1, 7, 399])
@pytest.mark.parametrize("name", ["loss/train", "gradient/norm"])
def test_fires_from_whichever_step_it_breaks(make, name, step):
    found = non_finite.check(make(400, {name: broken_from(step)}))
    assert found.severity == "error"
    assert found.steps == (step, 399)
    assert found.evidence[0].value == step


def test_names_the_parameters_that_broke_first(make):
    counts = {("gradient/non_finite", name): np.where(N >= at, 3.0, 0.0) for name, at in (("a", 9), ("b", 5))}
    found = non_finite.check(make(400, {"gradient/non_finite": np.where(N >= 5, 3.0, 0.0)} | counts))
    assert found.where == ("b",)
    assert found.steps[0] == 5


def test_a_single_broken_loss_that_heals_is_a_warning(make):
    found = non_finite.check(make(400, {"loss/train": lambda s, v: (s, np.where(s == 50, np.inf, v))}))
    assert found.severity == "warning"
    assert found.steps == (50, 50)


def test_one_broken_weight_is_an_error_although_it_is_not_read_again(make):
    found = non_finite.check(
        make(400, {"weight/non_finite": (np.array([0, 100, 200]), np.array([0.0, 1.0, 0.0]))})
    )
    assert found.severity == "error"


def test_silent_on_a_healthy_run_and_where_a_grad_scaler_skipped_the_step(make):
    assert non_finite.check(make(400)) is None
    once = {"loss/train": lambda s, v: (s, np.where(s == 50, np.inf, v))}
    assert non_finite.check(make(400, once, events=[Event("skipped_step", 50)])) is None


def test_a_loss_of_evaluation_that_is_no_number_is_told_where_training_is_sound(make):
    def held_out(*losses):
        passes = {("eval/loss", "loader 1"): (np.arange(99, 400, 100), np.array(losses))}
        return non_finite.check(make(400, passes))

    found = held_out(np.nan, np.nan, np.nan, np.inf)
    assert (found.severity, found.where, found.steps) == ("error", ("loader 1",), (99, 399))
    assert found.evidence[0].value == 1.0
    assert held_out(1.0, np.nan, 0.8, 0.7).severity == "warning"
    assert held_out(1.0, 0.9, 0.8, 0.7) is None


def test_cannot_know_without_readings():
    with pytest.raises(NotApplicable, match="no reading of the loss"):
        non_finite.check(record_of({"time/step": ([0], [0.1])}))
