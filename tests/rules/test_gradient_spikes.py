"""Test ``vario.rules.gradient_spikes``: fires, stays silent, cannot know."""

from __future__ import annotations

import numpy as np
import pytest

from vario.nouns import NotApplicable
from vario.rules.gradient_spikes import check


def planted(at, times):
    def change(steps, values):
        values = values.copy()
        values[at] *= times
        return steps, values

    return change


def test_fires_and_names_step_and_layer(make):
    spikes = {"gradient/norm": planted([251], 60), ("gradient/norm", "layers.4.weight"): planted([251], 200)}
    found = check(make(400, spikes))
    assert found.severity == "advice"  # the loss did not follow
    assert found.steps == (251, 251)
    assert found.where[0] == "layers.4.weight"


def test_those_before_the_first_that_can_be_judged_are_told_with_it(make):
    found = check(make(400, {"gradient/norm": planted([0, 1, 20, 251], 60)}))
    assert found.steps == (20, 251)  # a run that begins with large ones has no spike there
    assert next(e.value for e in found.evidence if e.name == "number of spikes") == 2
    assert check(make(400, {"gradient/norm": planted([20], 60)})) is None


def test_is_a_warning_where_the_loss_rises_after_it(make):
    def hurt(steps, values):
        return steps, values + np.where((steps > 251) & (steps < 275), 2.0, 0.0)

    found = check(make(400, {"gradient/norm": planted([251], 60), "loss/train": hurt}))
    assert found.severity == "warning"


def test_silent_on_healthy_runs_of_ten_thousand_steps(make):
    for seed in range(5):
        assert check(make(10_000, seed=seed)) is None


def test_silent_on_a_late_gradient_no_larger_than_the_first_ones(make):
    """Late in a run one hard example stands out, since all else is learned."""
    falls = lambda s, v: (s, planted([900], 100)(s, np.exp(-s / 100) * v / v.mean())[1])  # noqa: E731
    assert check(make(1000, {"gradient/norm": falls})) is None


def test_nan_and_constants_break_nothing(make):
    assert check(make(400, {"gradient/norm": 1.0})) is None
    assert check(make(400, {"gradient/norm": lambda s, v: (s, np.where(s % 7 == 0, np.nan, v))})) is None


@pytest.mark.parametrize("rises", [False, True])
def test_gradients_that_grow_and_stay_large_are_spikes_only_where_the_loss_rises(make, rises):
    """As when a run leaves its plateau: the first large ones stand out, and all that follow are like them."""
    woken = {"gradient/norm": lambda s, v: (s, v * np.where(s < 200, 1.0, 40.0))}
    if rises:
        woken["loss/train"] = lambda s, v: (s, v + np.where((s > 200) & (s < 225), 2.0, 0.0))
    found = check(make(400, woken))
    assert (found is not None) == rises
    lone = {"gradient/norm": lambda s, v: (s, v * np.where(s < 200, 1.0, np.where(s == 200, 400.0, 40.0)))}
    assert check(make(400, lone)).steps[0] == 200


def test_a_spike_at_the_very_end_is_told(make):
    assert check(make(400, {"gradient/norm": planted([397], 60)})).steps == (397, 397)


def test_gradients_that_differ_tenfold_from_batch_to_batch_are_no_spikes(make):
    """By their own spread: one hundredth of the runs may have one by chance."""
    for seed in range(40):
        wild = np.exp(1.1 * np.random.default_rng(seed).standard_normal(400))
        assert check(make(400, {"gradient/norm": lambda s, v, wild=wild: (s, wild)})) is None
    wild[251] = 3000.0
    assert check(make(400, {"gradient/norm": lambda s, v: (s, wild)})).steps == (251, 251)


def test_sixty_readings_tell_a_leap_too(make):
    assert check(make(60, {"gradient/norm": planted([41], 60)})).steps == (41, 41)
    assert all(check(make(60, seed=seed)) is None for seed in range(40))


def test_cannot_know_from_39_readings(make):
    with pytest.raises(NotApplicable, match="39 readings of gradient/norm; 40"):
        check(make(39))
