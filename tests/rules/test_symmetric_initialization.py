"""Test ``vario.rules.symmetric_initialization``: fires, stays silent, cannot know."""

from __future__ import annotations

import numpy as np
import pytest

from vario.nouns import NotApplicable
from vario.rules import symmetric_initialization

N = np.arange(400)


ALIKE = {("weight/row_difference", "layers.0.weight"): 0.0, ("weight/row_difference", "layers.8.weight"): 0.9}


def test_fires_on_a_layer_that_stays_alike(make):
    found = symmetric_initialization.check(make(400, ALIKE))
    assert (found.severity, found.where) == ("warning", ("layers.0.weight",))
    assert symmetric_initialization.check(make(400, ALIKE | {"loss/train": 2.303})).severity == "error"


def test_works_on_three_readings_of_a_sampled_series(make):
    rare = {("weight/row_difference", "layers.0.weight"): (np.array([0, 150, 300]), np.zeros(3))}
    assert symmetric_initialization.check(make(400, rare)) is not None


def test_a_symmetry_that_rounding_broke_after_a_while_cost_those_steps(make):
    later = {("weight/row_difference", "layers.0.weight"): np.where(N < 100, 1e-7, 1.5)}
    assert symmetric_initialization.check(make(400, later)).severity == "advice"
    at_once = {("weight/row_difference", "layers.0.weight"): np.where(N < 8, 1e-7, 1.5)}
    assert symmetric_initialization.check(make(400, at_once)) is None


def test_silent_where_the_symmetry_breaks_or_the_weight_is_frozen(make):
    zero_start = {("weight/row_difference", "layers.0.weight"): np.minimum(N * 1e-3, 0.9)}
    assert symmetric_initialization.check(make(400, zero_start)) is None
    frozen = lambda rows: [row | {"trainable": row["name"] != "layers.0.weight"} for row in rows]  # noqa: E731
    assert symmetric_initialization.check(make(400, ALIKE, parameters=frozen)) is None


def test_cannot_know_from_two_readings_or_without_updates(make):
    rare = {("weight/row_difference", "layers.0.weight"): (np.array([0, 300]), np.zeros(2))}
    with pytest.raises(NotApplicable, match="2 readings"):
        symmetric_initialization.check(make(400, rare))
    with pytest.raises(NotApplicable, match="no weight was updated"):
        symmetric_initialization.check(make(400, ALIKE | {"update/norm": 0.0}))


def test_random_biases_break_a_constant_start_at_once_and_it_is_named_all_the_same(make):
    def began(*first):
        rows = {
            ("weight/row_difference", f"layers.{2 * k}.weight"): (np.arange(4), np.array([v, 0.3, 0.8, 1.2]))
            for k, v in enumerate(first)
        }
        return symmetric_initialization.check(make(400, rows))

    assert began(0.02, 0.05, 0.01).severity == "advice"
    assert began(0.02, 0.05, 1.1) is None  # one of them is random
    assert began(0.02) is None


def test_two_matrices_that_stay_at_zero_keep_one_another_there_and_one_alone_does_not(make):
    def zero(*names, **more):
        norms = {("weight/norm", f"layers.{n}.weight"): 0.0 for n in names}
        return symmetric_initialization.check(make(400, norms | {"loss/train": 2.303}, **more))

    found = zero(0, 2)
    assert (found.severity, found.where) == ("error", ("layers.0.weight", "layers.2.weight"))
    with pytest.raises(NotApplicable):
        zero(0)
    forgotten = lambda rows: [r | {"in_optimizer": r["name"] != "layers.2.weight"} for r in rows]  # noqa: E731
    with pytest.raises(NotApplicable):
        zero(0, 2, parameters=forgotten)
    leaves = {("weight/norm", f"layers.{n}.weight"): N * 1e-3 for n in (0, 2)}
    with pytest.raises(NotApplicable):
        symmetric_initialization.check(make(400, leaves))
