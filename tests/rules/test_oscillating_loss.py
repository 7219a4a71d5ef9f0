"""Test ``vario.rules.oscillating_loss``: fires, stays silent, cannot know."""

from __future__ import annotations

import numpy as np
import pytest

from vario.nouns import NotApplicable
from vario.rules.oscillating_loss import check


def swings(height, period, noise=0.05):
    def change(steps, values):
        draw = np.random.default_rng(5).standard_normal(len(steps))
        return steps, 1.0 + np.exp(-steps / 20) + height * np.sin(2 * np.pi * steps / period) + noise * draw

    return change


def test_fires_on_a_slow_swing_and_measures_it(make):
    found = check(make(1000, {"loss/train": swings(0.5, 170)}))
    swing = next(e for e in found.evidence if e.name == "swing of the loss")
    # from the trough of a sine to its crest: twice its height
    assert swing.value == pytest.approx(1.0, rel=0.1)
    # the second half of 1000 steps holds three rises of period 170
    assert next(e for e in found.evidence if e.name == "number of swings").value == 3


def test_silent_on_white_noise_of_the_same_size(make):
    noisy = lambda s, v: (s, 1.0 + np.exp(-s / 20) + 0.5 * np.random.default_rng(6).standard_normal(len(s)))  # noqa: E731
    assert check(make(1000, {"loss/train": noisy})) is None


def test_silent_on_a_healthy_run(make):
    assert check(make()) is None


def test_cannot_know_from_a_short_run_or_a_loss_that_only_rose(make):
    with pytest.raises(NotApplicable, match="99 readings"):
        check(make(99))
    with pytest.raises(NotApplicable, match="never fell"):
        check(make(200, {"loss/train": lambda s, v: (s, 1.0 + s)}))


def test_silent_on_a_swing_that_is_small_against_what_was_won(make):
    assert check(make(1000, {"loss/train": swings(0.05, 170, noise=0.01)})) is None


def test_silent_where_white_noise_alone_is_large_against_what_was_won(make):
    noisy = lambda s, v: (s, 1 + 2 * np.exp(-s / 20) + 2 * np.random.default_rng(7).standard_normal(len(s)))  # noqa: E731
    assert check(make(1000, {"loss/train": noisy})) is None


def test_silent_on_a_single_rise_and_on_a_steep_descent(make):
    steps = np.arange(1000)
    rise = 1 + np.exp(-steps / 20) + 0.5 * (steps > 700)
    assert check(make(1000, {"loss/train": rise})) is None
    assert check(make(1000, {"loss/train": 3 - 2 * (steps > 700) + 0.0 * steps})) is None


def test_cannot_know_where_only_the_first_steps_were_read_often(make):
    at = np.unique(np.geomspace(1, 10_000, 200).astype(int))
    with pytest.raises(NotApplicable, match="in the second half; 50"):
        check(make(at=at))
