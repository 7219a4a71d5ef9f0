"""Test ``vario.rules.class_imbalance``: fires, stays silent, cannot know."""

from __future__ import annotations

import numpy as np
import pytest

from vario.nouns import NotApplicable
from vario.record import Event
from vario.rules import class_imbalance

N = np.arange(400)
PASSES = np.arange(39, 400, 40)


def counts(*shares):
    return {"batch/class_counts": (N, np.tile(64 * np.array(shares), (400, 1)))}


UNEQUAL = counts(0.9, 0.08, 0.02)


def recalls(*values):
    whole = np.tile([900.0, 80.0, 20.0], (10, 1))
    return {
        ("eval/class_counts", "loader 1"): (PASSES, whole),
        ("eval/class_correct", "loader 1"): (PASSES, whole * np.array(values)),
    }


def test_fires_as_advice_and_names_the_rarest_class(make):
    found = class_imbalance.check(make(400, UNEQUAL))
    assert found.severity == "advice"
    assert (found.evidence[0].value, found.evidence[0].where) == (pytest.approx(45), "class 2")


def test_is_a_warning_where_the_rare_are_neglected(make):
    assert class_imbalance.check(make(400, UNEQUAL | recalls(0.99, 0.1, 0.0))).severity == "warning"
    assert class_imbalance.check(make(400, UNEQUAL | recalls(0.99, 0.9, 0.8))).severity == "advice"


def test_silent_where_not_even_the_frequent_are_recognised(make):
    """A word given its neighbours: right one time in three, and the rare ones hardly ever."""
    assert class_imbalance.check(make(400, UNEQUAL | recalls(0.33, 0.05, 0.0))) is None
    assert class_imbalance.check(make(400, UNEQUAL | recalls(0.66, 0.05, 0.0))).severity == "warning"


def test_training_tells_whether_the_frequent_are_recognised_where_nothing_is_held_out(make):
    def trained(share):
        return {"accuracy/class_correct": (N, UNEQUAL["batch/class_counts"][1] * [share, 0, 0])}

    assert class_imbalance.check(make(400, UNEQUAL | trained(0.33))) is None
    few = {name: (N[::10], values[1][::10] / 16) for name, values in (UNEQUAL | trained(0.45)).items()}
    assert class_imbalance.check(make(400, few)) is None  # 8 of 18: 0.25 to 0.66
    assert class_imbalance.check(make(400, UNEQUAL | trained(0.9))).severity == "advice"


def test_a_handful_of_rare_examples_does_not_tell_that_they_are_neglected(make):
    few = {"eval/class_counts": [90.0, 8.0, 2.0], "eval/class_correct": [89.0, 3.0, 1.0]}  # 0.4 of 10
    passes = {(name, "loader 1"): (PASSES, np.tile(values, (10, 1))) for name, values in few.items()}
    assert class_imbalance.check(make(400, UNEQUAL | passes)).severity == "advice"
    many = {key: (at, 20 * values) for key, (at, values) in passes.items()}
    assert class_imbalance.check(make(400, UNEQUAL | many)).severity == "warning"


def test_classes_that_the_loss_weighs_are_as_unequal_as_their_weighted_counts(make):
    def given(*weights):
        return make(400, UNEQUAL | {"batch/class_weights": (PASSES, np.tile(weights, (10, 1)))})

    assert class_imbalance.check(given(1.0, 11.0, 45.0)) is None
    assert class_imbalance.check(given(1.0, 1.0, 2.0)).evidence[0].value == pytest.approx(22.5)
    assert class_imbalance.check(given(1.0, 1.0, 0.5)).evidence[0].where == "class 2"


def test_outputs_that_training_shifts_by_the_log_of_the_shares_are_those_of_equal_classes(make):
    def given(*added):
        return make(400, UNEQUAL, events=[Event("class_shift", 0, data={"added": list(added)})])

    assert class_imbalance.check(given(*np.log([90.0, 8.0, 2.0]))) is None
    assert class_imbalance.check(given(*np.log([2.0, 8.0, 90.0]))).evidence[0].value == pytest.approx(2025)
    assert class_imbalance.check(given(0.0, 0.0)).evidence[0].value == pytest.approx(45)


def test_silent_on_equal_classes_and_on_an_inequality_of_chance(make):
    assert class_imbalance.check(make(400)) is None
    few = {"batch/class_counts": (N[:4], np.array([[30.0, 2.0]] * 4))}
    assert class_imbalance.check(make(4, few)) is None


def test_cannot_know_of_texts_of_few_labels_and_without_classes(make):
    text = {"batch/class_counts": (N, np.tile([4000.0, 90.0, 6.0], (400, 1)))}
    with pytest.raises(NotApplicable, match="many targets"):
        class_imbalance.check(make(400, text))
    with pytest.raises(NotApplicable, match="64 labels"):
        class_imbalance.check(make(400, {"batch/class_counts": (N[:1], np.array([[60.0, 4.0]]))}))
    with pytest.raises(NotApplicable, match="no classes"):
        class_imbalance.check(make(400, {"batch/class_counts": None}))
