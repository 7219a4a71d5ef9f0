"""Test ``vario.rules._harm``: what merely infers is advice while a run does well; what shows harm stays."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from vario.nouns import Finding
from vario.record import record_of
from vario.rules import ALL, diagnose
from vario.rules._diagnose import _load
from vario.rules._evidence import exactly
from vario.rules._harm import is_harmed

SIGN = Finding("a-sign", "error", 0.99, (), (0, 9), (exactly("an evidence", 1.0, 0.5),))


def severity(records, **card):
    rule = SimpleNamespace(ID="a-sign", CARD=card, check=lambda record: SIGN)
    return diagnose(records, [rule]).findings[0].severity


def run_of(loss, *, ratio=0.001, **more):
    steps = np.arange(len(loss))
    series = {("loss/train", ""): (steps, np.asarray(loss, float))}
    series["update/ratio", ""] = (steps, np.full(len(loss), ratio))
    return record_of(
        series | {(name.replace("__", "/"), "loader 0"): values for name, values in more.items()}
    )


FALLING, RISING, FLAT = np.geomspace(2.0, 0.2, 200), np.geomspace(1.0, 4.0, 200), np.full(200, 1.0)


def test_a_sign_is_advice_while_the_run_does_well_and_keeps_its_severity_where_it_fails(make):
    assert severity(make()) == "advice"
    assert severity(make(changes={"loss/train": 2.3})) == "error"
    assert (
        severity(make(changes={"loss/train": lambda at, y: (at, np.where(at > 300, np.nan, y))})) == "error"
    )


@pytest.mark.parametrize(
    ("name", "signs"),
    [
        ("dead_units", {("activation/dead_channels", "a"): 80.0, ("activation/channels", "a"): 100.0}),
        ("saturated_activations", {("activation/saturation_share", "a"): 0.9}),
        (
            "unnormalized_inputs",
            {"input/mean": 33.0, "input/std": 78.0, "input/largest": 255.0, "input/smallest": 0.0},
        ),
    ],
)
def test_real_rules_are_weighed(make, name, signs):
    found = [diagnose(make(changes=signs | loss), [name]).findings[0] for loss in ({}, {"loss/train": 2.3})]
    assert [f.severity for f in found] == ["advice", "warning"]


def test_harm_itself_is_no_sign(make):
    assert severity(make(), harm=True) == "error"
    assert severity(make(), harm="an evidence") == "error"
    assert severity(make(), harm="another evidence") == "advice"


def test_a_run_too_short_to_judge_shows_no_harm():
    assert not is_harmed(run_of([1.0, 2.0]))


def test_a_loss_that_rises_by_small_steps_has_another_objective_than_before():
    assert not is_harmed(run_of(RISING))
    assert is_harmed(run_of(RISING, ratio=0.05))


def test_what_was_won_and_lost_again_is_harm_where_steps_were_large():
    fallen = np.concatenate([FALLING, np.full(100, 1.0)])
    assert is_harmed(run_of(fallen, ratio=0.05))
    assert not is_harmed(run_of(fallen))
    assert not is_harmed(run_of(FALLING, ratio=0.05))


def test_a_loss_that_stays_while_held_out_answers_become_right_measures_something_else():
    at = np.arange(0, 200, 20)
    counts = (np.arange(200), np.full((200, 2), 8.0))
    better, same = (at, np.linspace(0.5, 0.9, 10)), (at, np.full(10, 0.5))
    for accuracy, harmed in ((better, False), (same, True)):
        record = run_of(FLAT, eval__accuracy=accuracy)
        with_classes = record_of(
            {(n, w): record.series(n, w) for n in record.names() for w in record.wheres(n)}
            | {("batch/class_counts", ""): counts}
        )
        assert is_harmed(with_classes) is harmed
    falling = run_of(FLAT, eval__loss=(at, np.linspace(1.0, 0.5, 10)))
    assert not is_harmed(falling) and is_harmed(run_of(FLAT))


def test_of_models_trained_together_no_loss_needs_to_fall():
    both = [run_of(FLAT), run_of(RISING, ratio=0.05)]
    other = record_of({}, stream="other")
    assert severity([both[0], other]) == "advice" and severity(both[:1]) == "error"
    assert not is_harmed(both[1], alone=False)


@pytest.mark.parametrize("name", ALL)
def test_a_card_says_of_harm_yes_or_the_name_of_an_evidence(name):
    harm = _load(name).CARD.get("harm", True)
    named = name in ("learning_rate_too_high", "underfitting")
    assert harm is True or (isinstance(harm, str) and named)


def test_a_loss_that_climbs_towards_zero_from_below_is_no_harm_and_above_zero_it_is():
    rising = np.r_[-0.1, -50.0 * np.geomspace(1.0, 0.2, 199)]
    assert not is_harmed(run_of(rising, ratio=0.3))
    assert is_harmed(run_of(rising + 60.0, ratio=0.3))
    assert is_harmed(run_of(np.r_[rising, np.full(100, 90.0)], ratio=0.3))


def test_the_first_step_of_lbfgs_may_do_all(make):
    done = {"loss/train": np.r_[1.28, np.full(29, 0.78)], "accuracy/train": None}
    assert not is_harmed(make(30, done, optimizer="LBFGS"))
    assert is_harmed(make(30, done))  # of one loss among many it would be chance


@pytest.mark.parametrize(("start", "harmed"), [(0.2, False), (2.3, True)])
def test_what_was_trained_before_has_won_before(make, start, harmed):
    flat = {"loss/train": start, "accuracy/train": None}
    assert is_harmed(make(400, flat)) == harmed
    regression = {"target/mean": 0.0, "target/std": 1.0, "batch/class_counts": None}
    assert is_harmed(make(400, flat | regression | {"loss/train": start / 4})) == harmed
    assert is_harmed(
        make(400, flat | {"loss/train": lambda at, _: (at, start + at / 50), "update/ratio": 0.1})
    )
