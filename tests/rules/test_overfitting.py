"""Test ``vario.rules.overfitting``: fires, stays silent, cannot know."""

from __future__ import annotations

import numpy as np
import pytest

from vario.nouns import NotApplicable
from vario.record import Event
from vario.rules import overfitting

N = np.arange(400)
PASSES = np.arange(39, 400, 40)


def held_out(losses, accuracy=None, where="loader 1"):
    series = {
        ("eval/loss", where): (PASSES, np.asarray(losses)),
        ("eval/examples", where): (PASSES, np.full(10, 1000.0)),
    }
    if accuracy is not None:
        series["eval/accuracy", where] = (PASSES, np.asarray(accuracy))
    return series


RISING = [1.5, 1.0, 0.8, 0.7, 0.75, 0.8, 0.86, 0.92, 0.98, 1.05]


def test_fires_from_the_best_evaluation_on(make):
    found = overfitting.check(make(400, held_out(RISING)))
    assert (found.severity, found.steps) == ("warning", (159, 399))
    assert found.evidence[0].value == pytest.approx(0.98 / 0.7)
    assert found.evidence[0].low < 0.98 / 0.7 < found.evidence[0].high


def test_is_advice_where_accuracy_still_gains_or_the_rise_is_small(make):
    gaining = np.linspace(0.5, 0.9, 10)
    assert overfitting.check(make(400, held_out(RISING, gaining))).severity == "advice"
    small = [1.5, 1.0, 0.8, 0.7, 0.71, 0.72, 0.73, 0.745, 0.755, 0.765]
    assert overfitting.check(make(400, held_out(small))).severity == "advice"


@pytest.mark.parametrize(("weighed", "recall", "severity"), [
    (True, 0.9, "advice"), (True, 0.7, "warning"), (False, 0.9, "warning"),
])  # fmt: skip
def test_where_classes_are_weighed_their_recall_must_be_lost_as_well(make, weighed, recall, severity):
    """Ten classes of 100; the loss doubles by a few examples of the heaviest."""
    right = np.full((10, 10), 90.0)
    right[4:] = 100 * recall
    seen = held_out(RISING, np.where(np.arange(10) < 4, 0.9, recall)) | {
        ("eval/class_correct", "loader 1"): (PASSES, right),
        ("eval/class_counts", "loader 1"): (PASSES, np.full((10, 10), 100.0)),
    }
    if weighed:  # examples cost 1 as they are, and the mean of the loss is another
        seen["examples/loss_quantiles"] = (N, np.full((400, 11), 1.0))
    assert overfitting.check(make(400, seen)).severity == severity


def test_a_loss_near_zero_that_doubles_is_advice(make):
    """Won: 2.3 - 0.03; lost again: 0.03, about a per cent of it."""
    tiny = [1.5, 0.5, 0.1, 0.03, 0.04, 0.045, 0.05, 0.055, 0.06, 0.065]
    assert overfitting.check(make(400, held_out(tiny))).severity == "advice"


def test_silent_while_held_out_loss_falls_wanders_or_training_worsens_too(make):
    assert overfitting.check(make(400, held_out(np.linspace(1.5, 0.7, 10)))) is None
    wander = 0.7 + 0.1 * np.array([0, 1, -1, 1, -1, 1, -0.8, 1, -0.9, 1])
    assert overfitting.check(make(400, held_out(wander))) is None
    assert overfitting.check(make(400, held_out(RISING) | {"loss/train": 0.5 + N / 400})) is None


def test_training_rows_are_not_held_out(make):
    own = held_out(RISING, where="loader 0")
    trains = [Event("epoch", 0, "loader 0")]
    assert overfitting.check(make(400, own | held_out(np.linspace(1.5, 0.7, 10)), events=trains)) is None
    assert overfitting.check(make(400, own, events=trains)) is not None  # evaluated without a loader
    with pytest.raises(NotApplicable, match="held-out data are needed"):
        overfitting.check(make(400, own | {("eval/seen_share", "loader 0"): (PASSES, np.ones(10))}))


def test_cannot_know_from_three_evaluations_or_none(make):
    with pytest.raises(NotApplicable, match="no evaluation"):
        overfitting.check(make(400))
    with pytest.raises(NotApplicable, match="3 evaluations"):
        overfitting.check(make(400, held_out([*RISING[:3], *[np.nan] * 7])))


def test_a_held_out_loss_that_stopped_half_way_is_advice(make):
    """Training falls from 2.3 to 0.2; held-out data from 2.3 to 1.3 (half of that) or to 0.5 (0.86 of it)."""

    def stops(at):
        return held_out([2.0, *np.full(9, at)])

    found = overfitting.check(make(400, stops(1.3)))
    assert (found.severity, found.evidence[0].value) == ("advice", pytest.approx(0.48, abs=0.03))
    assert overfitting.check(make(400, stops(0.5))) is None
    falling = held_out(np.linspace(2.2, 1.3, 10))
    assert overfitting.check(make(400, falling)) is None
    assert overfitting.check(make(400, stops(1.3) | {"loss/train": 1.3})) is None


def printed(losses, words="val loss", series="printed/loss", **more):
    return {(series, words): (PASSES, np.asarray(losses))} | more


def test_what_the_script_prints_stands_in_where_no_evaluation_has_a_loss(make):
    found = overfitting.check(make(400, printed(RISING)))
    assert (found.severity, found.steps) == ("warning", (159, 399))
    assert found.evidence[0].where == 'printed "val loss"'
    assert overfitting.check(make(400, printed(np.linspace(1.5, 0.7, 10)))) is None
    assert overfitting.check(make(400, printed(RISING) | held_out(np.linspace(1.5, 0.7, 10)))) is None


def test_figures_printed_at_one_step_are_averaged_and_roots_squared(make):
    twice = np.sort(np.r_[PASSES, PASSES[5:]])
    both = np.r_[RISING[:5], (np.array(RISING[5:])[:, None] + [0.1, -0.1]).reshape(-1)]
    once, found = (
        overfitting.check(make(400, p))
        for p in (printed(RISING), {("printed/loss", "val loss"): (twice, both)})
    )
    assert found.evidence[0].value == pytest.approx(once.evidence[0].value)
    roots = overfitting.check(make(400, printed(np.sqrt(RISING), "val rmse")))
    assert roots.evidence[0].value == pytest.approx(once.evidence[0].value)


def test_a_printed_score_that_still_gains_makes_it_advice(make):
    score = {("printed/score", "val acc"): (PASSES, np.linspace(50, 90, 10))}
    assert overfitting.check(make(400, printed(RISING) | score)).severity == "advice"
    worse = {("printed/score", "val acc"): (PASSES, np.linspace(90, 80, 10))}
    assert overfitting.check(make(400, printed(RISING) | worse)).severity == "warning"


def test_what_is_printed_of_training_is_not_held_out(make):
    with pytest.raises(NotApplicable, match="no loss on held-out data was seen or printed"):
        overfitting.check(make(400, printed(RISING, "train loss")))
    with pytest.raises(NotApplicable, match="3 held-out losses were printed; 4 are needed"):
        overfitting.check(make(400, {("printed/loss", "val loss"): (PASSES[:3], np.array(RISING[:3]))}))


def test_a_figure_without_a_name_is_a_loss_where_that_of_training_is_the_training_loss(make):
    own = 0.2 + 2.1 * np.exp(-6 * (PASSES - 20) / 399)  # the loss of the healthy run between two prints
    bare = printed(RISING, "val", "printed/figure")
    follows = bare | printed(own, "train", "printed/figure")
    assert overfitting.check(make(400, follows)).severity == "warning"
    gap = {"loss/train": lambda s, v: (s, np.where((s > 41) & (s < 77), np.nan, v))}  # no step was measured
    assert overfitting.check(make(400, follows | gap)).severity == "warning"
    rising = bare | printed(1 - own / 3, "train", "printed/figure")  # a share of right answers
    for unknown in (bare, rising):
        with pytest.raises(NotApplicable):
            overfitting.check(make(400, unknown))


def test_a_root_of_squared_errors_counts_as_the_error_itself(make):
    small = np.array([1.5, 1.0, 0.8, 0.7, 0.71, 0.715, 0.718, 0.722, 0.724, 0.726])  # squared: 1.076 times
    assert overfitting.check(make(400, printed(small))) is None
    found = overfitting.check(make(400, printed(small, "test rmse")))
    assert found.evidence[0].value == pytest.approx((0.724 / 0.7) ** 2)
