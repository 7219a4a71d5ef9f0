"""Test ``vario.rules.exploding_gradients``: fires, stays silent, cannot know."""

from __future__ import annotations

import numpy as np
import pytest

from vario.nouns import NotApplicable
from vario.rules.exploding_gradients import BEFORE_ANY_STEP, check

FAILING = {"loss/train": 2.303}


def test_fires_on_growth_over_time_and_names_the_layer(make):
    grows = lambda s, v: (s, 1.1 ** np.minimum(s, 100))  # noqa: E731
    record = make(400, FAILING | {"gradient/norm": grows, ("gradient/norm", "layers.2.weight"): grows})
    found = check(record)
    assert found.where[0] == "layers.2.weight"
    assert next(e for e in found.evidence if e.name == "largest gradient norm").value == pytest.approx(
        1.1**100
    )


def test_fires_on_growth_into_infinity(make):
    grows = lambda s, v: (s, np.where(s < 50, 2.0 ** np.minimum(s, 30), np.inf))  # noqa: E731
    found = check(make(400, FAILING | {"gradient/norm": grows}))
    assert found.evidence[0].value == np.inf and found.steps[0] == 50


def test_fires_on_growth_over_depth(make):
    depth = {("gradient/norm", f"layers.{2 * d}.weight"): 64 * 20.0 ** (4 - d) for d in range(5)}
    record = make(400, FAILING | depth | {"gradient/norm": 1e7})
    found = check(record)
    assert found.where == ("layers.0.weight",)
    assert found.evidence[-1].name == BEFORE_ANY_STEP and found.evidence[-1].value == pytest.approx(
        20**4 * 640**0.5 / 64
    )
    later = {key: (lambda s, v, size=size: (s, np.where(s == 0, 1.0, size))) for key, size in depth.items()}
    assert check(make(400, FAILING | later | {"gradient/norm": 1e7})).evidence[-1].name != BEFORE_ANY_STEP


def test_silent_where_the_run_learns(make):
    assert check(make()) is None
    assert check(make(400, {"gradient/norm": lambda s, v: (s, 1.1 ** np.minimum(s, 100))})) is None


def test_silent_on_a_failing_run_with_steady_or_absent_gradients(make):
    assert check(make(400, FAILING)) is None
    assert check(make(400, FAILING | {"gradient/norm": 0.0})) is None


def test_silent_where_gradients_turn_nan_without_growing(make):
    broken = lambda s, v: (s, np.where(s < 50, v, np.nan))  # noqa: E731
    assert check(make(400, {"loss/train": broken, "gradient/norm": broken})) is None


def test_silent_where_gradients_that_were_next_to_nothing_wake_up(make):
    """They rise ten-thousandfold and are still a hundredth of the weights."""
    wakes = lambda s, v: (s, np.where(s < 50, 1e-5, 0.1))  # noqa: E731
    assert check(make(400, FAILING | {"gradient/norm": wakes})) is None
    assert check(make(400, FAILING | {"gradient/norm": lambda s, v: (s, 200 * wakes(s, v)[1])})) is not None


def test_cannot_know_from_two_readings(make):
    with pytest.raises(NotApplicable, match="2 readings of gradient/norm"):
        check(make(2))


def test_silent_on_layers_that_differ_by_tens(make):
    depth = {("gradient/norm", f"layers.{2 * d}.weight"): 64 * 3.0 ** (4 - d) for d in range(5)}
    assert check(make(400, FAILING | depth | {"gradient/norm": 1e7})) is None


def test_silent_where_the_gradient_fell_after_the_first_step(make):
    fell = np.r_[100.0, np.full(399, 1e-3)]
    assert check(make(400, FAILING | {"gradient/norm": fell})) is None
    assert check(make(400, FAILING | {"gradient/norm": fell[::-1]})) is not None
