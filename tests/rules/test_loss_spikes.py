"""Test ``vario.rules.loss_spikes``: fires, stays silent, cannot know."""

from __future__ import annotations

import numpy as np
import pytest

from vario.nouns import NotApplicable
from vario.rules.loss_spikes import check


def jump(first, last, height):
    return lambda s, v: (s, v + np.where((s >= first) & (s <= last), height, 0.0))


def test_fires_on_a_jump_and_names_its_step(make):
    found = check(make(400, {"loss/train": jump(300, 303, 3.0)}))
    assert found.severity == "warning"
    assert found.steps == (300, 303)


def test_a_single_jump_is_advice(make):
    assert check(make(400, {"loss/train": jump(300, 300, 3.0)})).severity == "advice"


def test_a_loss_that_differs_by_factors_from_batch_to_batch_is_no_warning(make):
    """Fourth powers of normal inputs: a batch of few examples is now and then twenty times the usual one."""
    draw = np.random.default_rng(1)
    heavy = np.abs(draw.standard_normal((600, 8)) ** 4).mean(axis=1) * 0.1
    found = check(make(600, {"loss/train": lambda s, v: (s, 3 * np.exp(-s / 15) + heavy)}))
    assert next(e.value for e in found.evidence if e.name == "number of spikes") > 2
    assert found.severity == "advice"


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
