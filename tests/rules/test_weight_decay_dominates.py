"""Test ``vario.rules.weight_decay_dominates``: fires, stays silent, cannot know."""

from __future__ import annotations

import numpy as np
import pytest

from vario.nouns import NotApplicable
from vario.rules.weight_decay_dominates import check


def shrinking(rate, decay):
    """Weights without a gradient shrink by 1 - lr * decay at each step."""
    return lambda s, v: (s, 10 * (1 - rate * decay) ** s)


FAILING = {"loss/train": 2.303}


def test_fires_where_decay_is_part_of_the_gradient(make):
    ill = {("hyper/weight_decay", "group 0"): 0.5, "weight/norm": shrinking(0.1, 0.5), "gradient/norm": 1e-6}
    found = check(make(200, FAILING | ill))
    assert found.severity == "error"
    assert next(e for e in found.evidence if e.name == "pull of the decay").value > 1


def test_fires_where_decay_is_applied_apart(make):
    ill = {("hyper/weight_decay", "group 0"): 0.5, "weight/norm": shrinking(0.1, 0.5), "update/ratio": 0.05}
    found = check(make(200, FAILING | ill, optimizer="AdamW"))
    assert next(e for e in found.evidence if e.name == "pull of the decay").value == pytest.approx(1.0)


@pytest.mark.parametrize(("decayed", "first", "fires"), [(3, 1.0, True), (1, 1.0, False), (3, 1e-6, False)])
def test_the_typical_matrix_decides_where_gains_of_norms_are_not_decayed(make, decayed, first, fires):
    """As in a transformer: the gains are most of the norm of all weights, which stays.

    What no gradient reaches shrinks by any decay.
    """
    ill = {("hyper/weight_decay", "group 0"): 0.5, "weight/norm": 20.0, "update/ratio": 0.02}
    for depth in range(5):
        name = f"layers.{2 * depth}.weight"
        ill["weight/norm", name] = shrinking(0.1, 0.5 if depth < decayed else 0.0)(np.arange(200), None)
        ill["update/ratio", name] = (np.arange(200), np.full(200, 0.05))
        ill["gradient/norm", name] = (np.arange(200), np.full(200, 1.0 if depth else first))
    assert (check(make(200, FAILING | ill, optimizer="AdamW")) is not None) == fires


def test_silent_where_the_run_learns_or_the_weights_hold_or_the_gradient_wins(make):
    decay = {("hyper/weight_decay", "group 0"): 0.5}
    small = {"weight/norm": shrinking(0.1, 0.5), "gradient/norm": 1e-6}
    assert check(make(200, decay | small)) is None
    assert check(make(200, FAILING | decay | {"gradient/norm": 1e-6})) is None
    won = {"weight/norm": np.geomspace(10.0, 1.0, 200), "gradient/norm": 100.0}
    assert check(make(200, FAILING | decay | won)) is None


def test_a_loss_around_zero_does_not_tell_what_was_won_so_that_the_weights_decide(make):
    """As a cosine: -0.5 in between, 0 at the end."""
    around = {"loss/train": lambda s, v: (s, 0.1 - 0.5 * np.sin(np.pi * s / s[-1]))}
    decay = {("hyper/weight_decay", "group 0"): 0.5}
    small = {"weight/norm": shrinking(0.1, 0.5), "gradient/norm": 1e-6}
    assert check(make(200, around | decay | small)).severity == "warning"
    assert check(make(200, around | decay | {"gradient/norm": 1e-6})) is None


def test_cannot_know_without_weight_decay(make):
    with pytest.raises(NotApplicable, match="no weight decay"):
        check(make(200, FAILING))


def test_the_fall_of_the_weights_decides_and_not_the_balance_at_the_end(make):
    """Shrunk weights meet a gradient of their own size; the pull was thirty times it while they fell."""
    ill = {
        ("hyper/weight_decay", "group 0"): 0.5,
        "weight/norm": lambda s, v: (s, np.maximum(10 * 0.95**s, 0.05)),
        "gradient/norm": lambda s, v: (s, np.where(s < 60, 0.15, 0.05)),
    }
    assert check(make(400, FAILING | ill)).severity == "error"


def test_weights_that_all_went_to_zero_need_no_comparing(make):
    """A gradient as large as the pull hides it; a norm of 10 that ends at 0.05 comes of no gradient."""

    def decayed(end):
        return {
            "loss/train": 2.303,
            "weight/norm": np.geomspace(10.0, end, 400),
            "gradient/norm": np.full(400, 50.0),
            ("hyper/weight_decay", "group 0"): (np.arange(400), np.full(400, 0.3)),
        }

    assert check(make(400, decayed(0.05))).confidence == 0.95
    assert check(make(400, decayed(0.5))) is None


def test_a_run_that_won_more_than_half_is_held_down_where_decay_forgets_each_step_at_once(make):
    def found(decay, left, optimizer="AdamW"):
        ill = {
            "loss/train": lambda s, v: (s, left + (2.3 - left) * np.exp(-s / 20)),
            ("hyper/weight_decay", "group 0"): decay,
            "weight/norm": lambda s, v: (s, np.maximum(10 * (1 - 0.1 * decay) ** s, 3.0)),
            "update/ratio": 0.1 * decay,
        }
        return check(make(400, ill, optimizer=optimizer))

    assert found(1.0, left=0.9) is not None  # ten steps of four hundred
    assert found(1.0, left=0.2) is None  # it got there all the same
    assert found(0.3, left=0.9) is None  # 33 of 400, as where a long run is told to generalise
