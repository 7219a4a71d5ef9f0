"""Test ``vario.rules.excessive_regularization``: fires, stays silent, cannot know."""

from __future__ import annotations

import numpy as np
import pytest

from vario.nouns import NotApplicable
from vario.record import Event
from vario.rules.excessive_regularization import check


def dropout(p):
    return [Event("modules", 0, "", {"modules": [{"name": "drop", "class": "Dropout", "p": p}]})]


HIGH = {"loss/train": lambda s, v: (s, 1.8 + 0.5 * np.exp(-s / 20))}


def evaluated(loss):
    return {("eval/loss", "loader 1"): ([99, 199, 299, 399], [loss] * 4)}


def test_fires_where_evaluation_is_far_better_than_training(make):
    found = check(make(400, HIGH | evaluated(0.7), events=dropout(0.9)))
    assert (found.severity, found.where) == ("warning", ("drop",))


def test_dropout_as_a_function_counts_like_a_module(make):
    function = [
        Event("modules", 0, "", {"modules": [{"name": "fc", "class": "Linear"}]}),
        Event("dropout", 0, "", {"function": "dropout", "p": 0.1}),
        Event("dropout", 0, "", {"function": "dropout", "p": 0.9}),
    ]
    found = check(make(400, HIGH | evaluated(0.7), events=function))
    assert (found.severity, found.where) == ("warning", ("F.dropout",))
    with pytest.raises(NotApplicable, match="no dropout of 0.5"):
        check(make(400, HIGH | evaluated(0.7), events=function[:2]))


def test_is_advice_at_a_usual_dropout_since_wrong_labels_leave_the_same_picture(make):
    assert check(make(400, HIGH | evaluated(1.4), events=dropout(0.5))).severity == "advice"


def test_silent_at_a_usual_dropout_where_the_model_without_it_has_won_half(make):
    """Smoothed, mixed or wrong labels keep the loss of training up, and not that of an evaluation."""
    assert check(make(400, HIGH | evaluated(0.7), events=dropout(0.5))) is None
    assert check(make(400, HIGH | evaluated(0.7), events=dropout(0.7))).severity == "warning"


def test_a_run_that_learned_nothing_needs_no_better_evaluation(make):
    stuck = {"loss/train": 2.303}
    assert check(make(400, stuck | evaluated(2.303), events=dropout(0.9))).severity == "warning"
    assert check(make(400, stuck | evaluated(2.303), events=dropout(0.5))) is None


def test_what_fell_to_a_guess_alone_has_learned_nothing(make):
    swings = 0.2 * np.sin(np.arange(400) / 5)
    to_a_guess = {
        "loss/train": lambda s, v: (s, 2.28 + 0.6 * np.exp(-s / 20) + swings)
    }  # of ten classes: 2.30
    assert check(make(400, to_a_guess | evaluated(2.26), events=dropout(0.9))).severity == "warning"


def test_is_advice_without_evaluation_at_extreme_dropout_only(make):
    assert check(make(400, HIGH, events=dropout(0.9))).severity == "advice"
    assert check(make(400, HIGH, events=dropout(0.5))) is None


def test_fires_where_answers_without_dropout_are_right_far_more_often(make):
    def answers(seen):
        return HIGH | evaluated(1.75) | {
            "accuracy/train": seen,
            ("eval/accuracy", "loader 1"): ([199, 399], [0.5, 0.7]),
            ("eval/examples", "loader 1"): ([199, 399], [1000.0, 1000.0]),
        }  # fmt: skip

    found = check(make(400, answers(0.15), events=dropout(0.9)))
    assert found.severity == "warning"
    assert next(e for e in found.evidence if "accuracy" in e.name).value == pytest.approx(0.7 / 0.15)
    assert check(make(400, answers(0.5), events=dropout(0.75))) is None
    fallen = {
        "loss/train": lambda s, v: (s, 2.2 + 4.1 * np.exp(-s / 20))
    }  # what was let through was scaled up
    assert check(make(400, answers(0.15) | fallen, events=dropout(0.98))).severity == "warning"
    assert check(make(400, answers(0.5) | fallen, events=dropout(0.98))) is None
    leaving = answers(0.15) | {"loss/train": 2.27} | evaluated(2.24)  # of a guess, 2.30, nothing is won yet
    assert check(make(400, leaving, events=dropout(0.5))) is None


def test_silent_where_the_loss_is_low_or_evaluation_is_no_better(make):
    assert check(make(400, evaluated(0.1), events=dropout(0.5))) is None
    assert check(make(400, HIGH | evaluated(1.75), events=dropout(0.75))) is None


def test_extreme_dropout_is_advice_where_evaluation_is_no_better(make):
    assert check(make(400, HIGH | evaluated(1.75), events=dropout(0.9))).severity == "advice"


def test_the_first_errors_of_a_regression_are_no_yardstick(make):
    """Targets of spread 1: a guess costs 1. Dropout of 0.9 makes the first loss 3, and 0.7 remains."""
    falls = {"loss/train": lambda s, v: (s, 0.7 + 2.3 * np.exp(-s / 20)), "batch/class_counts": None}
    series = falls | evaluated(0.7) | {"target/std": 1.0}
    assert check(make(400, series, events=dropout(0.9))).severity == "advice"
    assert check(make(400, series | {"target/std": 2.0}, events=dropout(0.9))) is None


def test_cannot_know_without_modules_or_strong_dropout(make):
    with pytest.raises(NotApplicable, match="not recorded"):
        check(make(400, HIGH))
    with pytest.raises(NotApplicable, match="no dropout of 0.5"):
        check(make(400, HIGH, events=dropout(0.1)))
