"""Test ``vario.rules.class_neglected``: fires, stays silent, cannot know."""

from __future__ import annotations

import numpy as np
import pytest

from vario.nouns import NotApplicable
from vario.rules import class_neglected

N = np.arange(400)
PASSES = np.arange(39, 400, 40)


def held_out(recall, counts):
    counts = np.tile(np.asarray(counts, float), (10, 1))
    return {
        ("eval/class_counts", "loader 1"): (PASSES, counts),
        ("eval/class_correct", "loader 1"): (PASSES, counts * np.asarray(recall)),
    }


def test_fires_and_names_the_class(make):
    found = class_neglected.check(make(400, held_out([0.95, 0.9, 0.02, 0.92], [100, 100, 50, 100])))
    assert (found.severity, found.where) == ("warning", ("loader 1", "class 2"))
    worst = next(e for e in found.evidence if e.name == "recall of the worst class")
    assert worst.value == pytest.approx(0.02)
    assert worst.high < 0.15


@pytest.mark.parametrize(("common", "rare", "severity"), [(1.0, 0.0, "advice"), (0.99, 0.1, "advice")])
def test_the_rare_one_of_two_classes_is_advice_where_to_guess_would_be_as_right(make, common, rare, severity):
    found = class_neglected.check(make(400, held_out([common, rare], [950, 50])))
    assert (found.severity, found.where) == (severity, ("loader 1", "class 1"))


def test_silent_on_a_harder_class_on_few_examples_and_on_a_model_that_knows_nothing(make):
    assert class_neglected.check(make(400, held_out([0.95, 0.9, 0.6, 0.92], [100] * 4))) is None
    assert class_neglected.check(make(400, held_out([1.0, 0.0, 0.0, 0.0], [100] * 4))) is None
    assert class_neglected.check(make(400, held_out([1.0, 0.0], [500, 500]))) is None
    assert class_neglected.check(make(400, held_out([0.9, 0.9, 0.0], [100, 100, 5]))) is None


def test_training_batches_serve_where_nothing_was_held_out(make):
    def right(steps, counts):
        return counts * np.array([0.0] + [0.9] * 9)

    healthy = make(400).series("batch/class_counts")
    found = class_neglected.check(make(400, {"accuracy/class_correct": (N, right(*healthy))}))
    assert found.where == ("class 0",)


def test_cannot_know_without_classes_or_for_texts(make):
    with pytest.raises(NotApplicable, match="no accuracy per class"):
        class_neglected.check(make(400))
    with pytest.raises(NotApplicable, match="many targets"):
        class_neglected.check(make(400, {"batch/class_counts": (N, np.full((400, 4), 1000.0))}))
    with pytest.raises(NotApplicable, match="0 classes"):
        class_neglected.check(make(400, held_out([0.0, 1.0], [5, 5])))
