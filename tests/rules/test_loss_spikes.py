"""Test ``vario.rules.loss_spikes``: fires, stays silent, cannot know."""

from __future__ import annotations

import numpy as np
import pytest

from vario.nouns import NotApplicable
from vario.rules._evidence import spikes
from vario.rules.loss_spikes import check


def jump(first, last, height):
    return lambda s, v: (s, v + np.where((s >= first) & (s <= last), height, 0.0))


def test_fires_on_a_jump_and_names_its_step(make):
    found = check(make(400, {"loss/train": jump(300, 303, 3.0)}))
    assert found.severity == "warning"
    assert found.steps == (300, 303)


def counted(found):
    return next(e.value for e in found.evidence if e.name == "number of spikes")


def test_one_jump_of_many_steps_is_counted_once(make):
    assert counted(check(make(400, {"loss/train": jump(300, 303, 3.0)}))) == 1
    twice = lambda s, v: (s, v + np.where(np.isin(s, (200, 201, 300, 301, 302)), 3.0, 0.0))  # noqa: E731
    assert counted(check(make(400, {"loss/train": twice}))) == 2


def test_a_single_jump_is_advice(make):
    assert check(make(400, {"loss/train": jump(300, 300, 3.0)})).severity == "advice"


def test_silent_on_a_loss_that_differs_by_factors_from_batch_to_batch(make):
    """Fourth powers of normal inputs: a batch of few examples is now and then twenty times the usual one."""
    draw = np.random.default_rng(1)
    heavy = np.abs(draw.standard_normal((600, 8)) ** 4).mean(axis=1) * 0.1
    jumps = make(600, {"loss/train": lambda s, v: (s, 3 * np.exp(-s / 15) + heavy)})
    assert spikes(jumps.series("loss/train")[1], 8.0).sum() > 2
    assert check(jumps) is None


def noisy(height):
    """A loss whose noise is a seventh of all that is won, and which stays up for a dozen steps."""
    draw = np.random.default_rng(3)
    return lambda s, v: (
        s,
        v + 0.3 * draw.standard_normal(len(s)) + np.where((s >= 300) & (s < 312), height, 0.0),
    )


def test_a_rise_that_lasts_is_seen_though_noise_hides_each_of_its_readings(make):
    sick = make(400, {"loss/train": noisy(2.1)})
    assert not spikes(sick.series("loss/train")[1], 8.0)[:304].any()
    found = check(sick)
    assert 297 <= found.steps[0] <= 303 and found.steps[1] <= 312


def test_silent_where_a_rise_does_not_last_or_costs_little(make):
    assert check(make(400, {"loss/train": noisy(0.0)})) is None
    assert check(make(400, {"loss/train": noisy(0.9)})) is None
    assert check(make(5000, {"loss/train": noisy(0.0)})) is None


def test_three_jumps_in_a_steady_loss_are_a_warning(make):
    struck = {"loss/train": lambda s, v: (s, v + np.where(np.isin(s, (200, 260, 333)), 3.0, 0.0))}
    assert check(make(400, struck)).severity == "warning"


def test_silent_on_healthy_runs_of_ten_thousand_steps(make):
    for seed in range(5):
        assert check(make(10_000, seed=seed)) is None


def test_silent_on_a_hard_batch_that_costs_little(make):
    assert check(make(400, {"loss/train": jump(300, 300, 0.6)})) is None


def test_nan_breaks_nothing(make):
    assert check(make(400, {"loss/train": lambda s, v: (s, np.where(s > 200, np.nan, v))})) is None


def test_cannot_know_from_99_readings(make):
    with pytest.raises(NotApplicable, match="99 readings of loss/train; 100"):
        check(make(99))
