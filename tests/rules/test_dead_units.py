"""Test ``vario.rules.dead_units``: fires, stays silent, cannot know."""

from __future__ import annotations

import numpy as np
import pytest

from vario.nouns import NotApplicable
from vario.rules import dead_units

N = np.arange(400)


def dead(values, where="layers.0", channels=100.0):
    return {("activation/dead_channels", where): values, ("activation/channels", where): channels}


def test_fires_with_the_step_from_which_units_died(make):
    found = dead_units.check(make(400, dead(np.where(N >= 100, 80.0, 5.0))))
    assert (found.severity, found.where, found.steps) == ("warning", ("layers.0",), (100, 399))
    assert [e.value for e in found.evidence[:2]] == [0.8, 299]


def test_a_layer_that_is_all_dead_is_an_error(make):
    assert dead_units.check(make(400, dead(100.0))).severity == "error"


def test_names_every_layer_the_worst_first(make):
    found = dead_units.check(make(400, dead(60.0) | dead(90.0, "layers.2")))
    assert found.where == ("layers.2", "layers.0")


def test_silent_on_a_few_and_on_units_that_are_only_seldom_active(make):
    assert dead_units.check(make(400, dead(20.0))) is None
    flicker = np.where(N % 3 == 0, 30.0, 70.0)  # a dead unit would stay dead
    assert dead_units.check(make(400, dead(flicker))) is None


def test_small_batches_are_judged_only_where_all_is_silent(make):
    with pytest.raises(NotApplicable, match="batches of 2"):
        dead_units.check(make(400, dead(80.0) | {"batch/size": 2.0}))
    assert dead_units.check(make(400, dead(100.0) | {"batch/size": 2.0})) is not None


def test_cannot_know_without_relus_or_from_four_readings(make):
    with pytest.raises(NotApplicable, match="0 readings"):
        dead_units.check(make(400))
    with pytest.raises(NotApplicable, match="4 readings"):
        dead_units.check(make(4, dead(80.0)))
    with pytest.raises(NotApplicable, match="0 readings"):
        dead_units.check(make(400, dead(2.0, channels=2.0)))


def test_bears_nan(make):
    assert dead_units.check(make(400, dead(np.where(N % 7 == 0, np.nan, 80.0)))) is not None
