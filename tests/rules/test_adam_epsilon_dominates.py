"""Test ``vario.rules.adam_epsilon_dominates``: fires, stays silent, cannot know."""

from __future__ import annotations

import numpy as np
import pytest

from vario.nouns import NotApplicable
from vario.rules.adam_epsilon_dominates import check


def entries(size):
    """Every matrix gets gradients whose entries have root mean square ``size``."""
    sizes = [64, 64, 64, 64, np.sqrt(640)]
    return {("gradient/norm", f"layers.{2 * d}.weight"): sizes[d] * size for d in range(5)}


FAILING = {"loss/train": 2.303}


def eps(value):
    return {("hyper/eps", "group 0"): value}


def test_fires_where_epsilon_is_above_the_gradients(make):
    found = check(make(400, FAILING | entries(1e-3) | eps(0.1), optimizer="Adam"))
    assert found.severity == "warning"
    assert next(e for e in found.evidence if e.name == "share of entries below epsilon").value == 1.0


def test_silent_at_the_usual_epsilon(make):
    assert check(make(400, FAILING | entries(1e-3) | eps(1e-8), optimizer="Adam")) is None


def test_in_a_run_that_learns_it_is_advice_unless_gradients_only_end_below(make):
    assert check(make(400, entries(1e-3) | eps(0.1), optimizer="Adam")).severity == "advice"
    ends = {name: size * np.geomspace(100, 1e-2, 400) for name, size in entries(1e-1).items()}
    assert check(make(400, ends | eps(0.1), optimizer="Adam")) is None


def test_silent_where_only_the_last_layer_is_below(make):
    ill = FAILING | entries(1.0) | {("gradient/norm", "layers.8.weight"): 1e-6} | eps(1e-3)
    assert check(make(400, ill, optimizer="Adam")) is None


def test_gradients_of_exactly_zero_are_below_any_epsilon_and_no_witness(make):
    cut_off = {("gradient/norm", f"layers.{2 * depth}.weight"): 0.0 for depth in range(4)}
    assert check(make(400, FAILING | cut_off | eps(1e-8), optimizer="Adam")) is None


def test_cannot_know_without_epsilon(make):
    with pytest.raises(NotApplicable, match="no epsilon"):
        check(make(400, FAILING))
