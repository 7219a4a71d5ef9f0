"""Test ``vario.rules.vanishing_gradients``: fires, stays silent, cannot know."""

from __future__ import annotations

import numpy as np
import pytest

from vario.nouns import NotApplicable
from vario.rules.vanishing_gradients import check


def fading(factor):
    """Root mean square entries that fade by ``factor`` per layer towards the input."""
    sizes = [64, 64, 64, 64, np.sqrt(640)]
    return {
        ("gradient/norm", f"layers.{2 * d}.weight"): sizes[d] * 0.01 * factor ** (4 - d) for d in range(5)
    }


def test_fires_on_a_geometric_fall_and_gives_its_factor(make):
    found = check(make(400, {"loss/train": 2.303} | fading(0.1)))
    assert found.severity == "error"
    assert found.where == ("layers.0.weight",)
    assert next(e for e in found.evidence if e.name == "factor from layer to layer").value == pytest.approx(
        0.1
    )


def test_silent_where_the_fall_is_mild_or_the_run_learns(make):
    assert check(make(400, {"loss/train": 2.303} | fading(0.3))) is None
    assert check(make(400, fading(0.1))) is None
    assert check(make(400, {"loss/train": 2.303})) is None


def test_silent_where_one_layer_in_the_middle_is_small(make):
    one = {("gradient/norm", "layers.6.weight"): 1e-9}
    assert check(make(400, {"loss/train": 2.303} | one)) is None


def test_silent_where_a_layer_nearer_to_the_input_gets_its_gradient(make):
    fades = {"loss/train": 2.303} | fading(0.1)  # the second layer a thousandth, the first less

    def first(size):
        return fades | {("gradient/norm", "layers.0.weight"): 64 * 0.01 * size, second: 64 * 0.01 * 1e-5}

    second = ("gradient/norm", "layers.2.weight")
    assert check(make(400, first(0.02))).where == ("layers.2.weight",)  # by width and fan-in
    assert check(make(400, first(0.05))) is None  # as a table of embeddings beside queries and keys


def test_cannot_know_where_gradients_are_exactly_zero(make):
    with pytest.raises(NotApplicable, match="0 matrices"):
        check(make(400, {"loss/train": 2.303} | fading(0.0) | {("gradient/norm", "layers.8.weight"): 0.0}))


def test_cannot_know_the_order_without_the_list_of_parameters(make):
    with pytest.raises(NotApplicable, match="matrices"):
        check(make(400, {"loss/train": 2.303} | fading(0.1), parameters=lambda rows: []))


def test_a_slow_run_is_a_warning(make):
    slow = {"loss/train": lambda s, v: (s, 1.5 + 0.8 * np.exp(-s / 50))}
    assert check(make(400, slow | fading(0.1))).severity == "warning"


def test_silent_where_gradients_go_up_and_down_over_depth(make):
    sizes = [1e-6, 1.0, 0.5, 0.2, 0.1]
    wild = {("gradient/norm", f"layers.{2 * d}.weight"): 64 * sizes[d] for d in range(5)}
    assert check(make(400, {"loss/train": 2.303} | wild)) is None


def test_a_run_in_which_only_the_last_layers_can_have_learned_is_a_warning(make):
    found = check(make(400, fading(0.01)))  # 1e-8 of the last layer's gradient reaches the first
    assert found.severity == "warning"
    assert check(make(400, fading(0.03))) is None  # 8e-7: little, but a sum still sees it


def test_a_fall_to_what_a_guess_costs_is_no_progress(make):
    text = np.linspace(7.0, 2.0, 400)  # guessing ten classes costs 2.3
    assert check(make(400, {"loss/train": text} | fading(0.1))).severity == "warning"
    assert check(make(400, {"loss/train": text / 2} | fading(0.1))) is None


def test_an_epsilon_above_every_gradient_is_judged_apart(make):
    fades = {"loss/train": 2.303} | fading(0.1)
    assert check(make(400, fades | {("hyper/eps", "group 0"): 1e-4})) is not None
    with pytest.raises(NotApplicable, match="epsilon"):
        check(make(400, fades | {("hyper/eps", "group 0"): 1.0}))
