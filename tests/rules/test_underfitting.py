"""Test ``vario.rules.underfitting``: fires, stays silent, cannot know."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from vario.nouns import NotApplicable
from vario.rules import loss_plateau
from vario.rules._causes import explains
from vario.rules._diagnose import diagnose, rank
from vario.rules.underfitting import check


def levels(height):
    return {"loss/train": lambda s, v: (s, height + (2.4 - height) * np.exp(-s / 20))}


def test_fires_where_the_loss_levels_off_near_a_guess(make):
    found = check(make(400, levels(2.0)))
    assert found.severity == "advice"
    assert next(e for e in found.evidence if e.name == "loss of guessing").value == pytest.approx(
        np.log(10), rel=0.01
    )


def test_fires_where_evaluation_is_as_high_as_training(make):
    assert check(make(400, levels(2.0) | {("eval/loss", "loader 1"): ([399], [2.05])})) is not None


def test_silent_where_it_still_falls_or_is_low_or_evaluation_is_worse(make):
    falling = {"loss/train": lambda s, v: (s, 2.3 - 0.5 * s / s[-1])}
    assert check(make(400, falling)) is None
    assert check(make(400, levels(0.5))) is None
    assert check(make(400, levels(2.0) | {("eval/loss", "loader 1"): ([399], [3.0])})) is None
    assert check(make()) is None


def test_a_loss_at_the_level_of_a_guess_need_not_be_known_as_flat_to_a_hundredth(make):
    noise = np.random.default_rng(2).standard_normal(400)
    assert check(make(400, {"loss/train": lambda s, v: (s, 2.303 + 0.2 * noise)})) is not None
    assert check(make(400, {"loss/train": lambda s, v: (s, 2.4 - 0.3 * s / s[-1] + 0.03 * noise)})) is None


def test_silent_where_a_fall_is_sure_though_single_readings_differ_by_more(make):
    noise = 0.8 * np.random.default_rng(3).standard_normal(20000)
    assert check(make(20000, {"loss/train": lambda s, v: (s, 2.4 - 0.45 * s / s[-1] + noise)})) is None
    rested = {"loss/train": lambda s, v: (s, 1.95 + 0.45 * np.exp(-s / 500) + noise)}
    assert check(make(20000, rested)) is not None


def test_cannot_know_from_23_steps(make):
    with pytest.raises(NotApplicable, match="23 readings"):
        check(make(23))


def narrow(rows):
    """A last layer that chooses among ten classes by three numbers: eight corners for ten."""
    return [r | {"shape": [10, 3]} if r["name"] == "layers.8.weight" else r for r in rows]


def test_fewer_numbers_than_log2_of_the_classes_are_too_narrow_and_explain_a_plateau(make):
    falling = {"loss/train": lambda s, v: (s, 2.3 - 0.5 * s / s[-1])}
    found = check(make(400, falling, parameters=narrow))
    assert (found.severity, found.confidence) == ("advice", 0.75)
    stuck = make(400, {"loss/train": 2.303}, parameters=narrow)
    assert check(stuck).severity == "warning"
    with pytest.raises(NotApplicable, match="too narrow"):
        loss_plateau.check(stuck)
    low = {"loss/train": lambda s, v: (s, 0.3 + 2 * np.exp(-s / 20))}
    assert check(make(400, low, parameters=narrow)) is None
    assert loss_plateau.check(make(400, {"loss/train": 2.303})) is not None


def through(width):
    """A regression whose second layer gives ``width`` numbers and whose third is given them."""

    def shapes(rows):
        sizes = {"layers.2.weight": [width, 32], "layers.4.weight": [32, width]}
        return [r | {"shape": sizes.get(r["name"], r["shape"])} for r in rows]

    return shapes


def test_a_regression_by_one_number_is_too_narrow_where_thirty_percent_are_left(make):
    flat = {"loss/train": lambda s, v: (s, 0.5 + 0.5 * np.exp(-s / 20))}
    regression = flat | {"batch/class_counts": None}
    assert check(make(400, regression, parameters=through(1))).confidence == 0.75
    assert check(make(400, regression, parameters=through(2))) is None
    assert check(make(400, flat, parameters=through(1))) is None  # classes are judged by the last layer
    low = {"loss/train": lambda s, v: (s, 0.25 + 0.75 * np.exp(-s / 20)), "batch/class_counts": None}
    assert check(make(400, low, parameters=through(1))) is None

    def falling(by):  # over the last third, of what is left there
        lost = {
            "loss/train": lambda s, v: (s, 0.5 * (1 + by * 3 * (1 - s / s[-1]))),
            "batch/class_counts": None,
        }
        return check(make(400, lost, parameters=through(1)))

    assert falling(0.05) is not None and falling(0.15) is None


def test_the_mean_of_the_targets_is_no_progress(make):
    """Targets of 0.5 and a spread of 0.2: the loss falls from 0.29 to the 0.04 that their mean leaves."""
    targets = {"target/mean": 0.5, "target/std": 0.2, "batch/class_counts": None}
    settled = targets | {"loss/train": lambda s, v: (s, 0.04 + 0.25 * np.exp(-s / 20))}
    assert check(make(400, settled)) is not None
    assert check(make(400, settled | {"target/std": 0.5})) is None


def crossed(times):
    return {
        ("target/pairs", ""): ([0, 10, 20, 30], [times] * 4),
        "loss/train": lambda s, v: (s, 900 * np.exp(-s / 30) + 1),
    }


def test_outputs_held_against_all_targets_of_a_batch_cannot_fit_and_explain_a_plateau(make):
    found = check(make(400, crossed(32.0)))
    assert (found.severity, found.evidence[1].value) == ("warning", 32.0)
    assert check(make(400, crossed(1.0))) is None
    learns = diagnose([make(400, crossed(32.0))]).findings[0]  # the shapes are the harm
    assert (learns.id, learns.severity) == ("underfitting", "warning")
    plateau = replace(found, id="loss-plateau", evidence=())
    assert explains(found, plateau) and not explains(plateau, found)
    flat = check(make(400, {"loss/train": 2.303}))
    assert explains(plateau, flat) and not explains(flat, plateau)


@pytest.mark.parametrize(("start", "known"), [(0.05, False), (0.3, True), (0.8, True)])
def test_cannot_know_what_a_guess_costs_where_a_regression_is_resumed(make, start, known):
    """Targets with a variance of 1: by Huber's loss a guess costs 0.3, by absolute differences 0.8."""
    changes = {"loss/train": start, "target/mean": 0.0, "target/std": 1.0, "batch/class_counts": None}
    if known:
        assert check(make(400, changes)).severity == "advice"
    else:
        with pytest.raises(NotApplicable, match="far below what a guess costs"):
            check(make(400, changes))


def test_what_a_symptom_of_it_explains_stands_below_it(make):
    crossed_shapes = check(make(400, crossed(32.0)))
    slow = replace(crossed_shapes, id="learning-rate-too-low", evidence=())
    alike = replace(crossed_shapes, id="batch-too-large", evidence=())
    ranked = rank([alike, slow, crossed_shapes])
    assert [(f.id, f.explained_by) for f in ranked[1:]] == [
        ("batch-too-large", "underfitting"),
        ("learning-rate-too-low", "underfitting"),
    ]
