"""Test ``vario.rules.parameters_not_updated``: fires, stays silent, cannot know."""

from __future__ import annotations

import pytest

from vario.nouns import NotApplicable
from vario.record import Event, record_of
from vario.rules.parameters_not_updated import check


def marked(name, **facts):
    return lambda rows: [row | facts if row["name"] == name else row for row in rows]


def test_fires_on_a_parameter_in_no_optimizer(make):
    found = check(make(parameters=marked("layers.2.weight", in_optimizer=False)))
    assert (found.severity, found.where) == ("error", ("layers.2.weight",))
    assert found.evidence[0].value == 64 * 64


def test_what_no_gradient_reaches_is_left_out_on_purpose(make):
    aside = {"in_optimizer": False, "has_gradient": False}
    assert check(make(parameters=marked("layers.2.weight", **aside))).severity == "advice"
    unknown = aside | {"has_gradient": None}
    assert check(make(parameters=marked("layers.2.weight", **unknown))).severity == "error"


def test_what_another_optimizer_moves_is_not_forgotten(make):
    aside = marked("layers.2.weight", in_optimizer=False)
    moved = [Event("held_elsewhere", 0, "", {"names": ["layers.2.weight"]})]
    assert check(make(parameters=aside, events=moved)) is None
    other = [Event("held_elsewhere", 0, "", {"names": ["layers.0.weight"]})]
    assert check(make(parameters=aside, events=other)).where == ("layers.2.weight",)


def test_a_target_that_is_a_copy_of_what_is_trained_follows_by_hand(make):
    def copied(part, **facts):
        aside = {"in_optimizer": False, "has_gradient": False, **facts}
        return lambda rows: rows + [row | aside | {"name": part + row["name"][6:]} for row in rows]

    assert check(make(parameters=copied("target"))) is None
    assert check(make(parameters=copied("target", has_gradient=True))).severity == "error"
    assert check(make(parameters=copied("target", shape=[3]))).severity == "advice"
    assert check(make(parameters=copied("7"))).severity == "advice"  # one of several layers alike


def test_frozen_on_purpose_is_advice(make):
    found = check(make(parameters=marked("layers.0.weight", trainable=False, in_optimizer=False)))
    assert (found.severity, found.where) == ("advice", ("layers.0.weight",))


def test_an_integer_is_no_parameter_that_could_learn(make):
    def with_seed(dtype):
        return lambda rows: [*rows, rows[0] | {"name": "seed.state", "trainable": False, "dtype": dtype}]

    assert check(make(parameters=with_seed("int64"))) is None
    assert check(make(parameters=with_seed("float32"))).where == ("seed.state",)


def test_fires_on_a_parameter_that_never_moves_although_it_has_a_gradient(make):
    found = check(make(400, {("update/norm", "layers.4.weight"): 0.0}))
    assert (found.severity, found.where) == ("warning", ("layers.4.weight",))


def test_silent_on_a_healthy_run_and_where_there_is_no_gradient(make):
    assert check(make()) is None
    no_gradient = {("update/norm", "layers.4.weight"): 0.0, ("gradient/norm", "layers.4.weight"): 0.0}
    assert check(make(400, no_gradient)) is None


def test_silent_on_a_bias_before_batchnorm_whose_gradient_is_rounding(make):
    rounding = {("update/norm", "layers.4.weight"): 0.0, ("gradient/norm", "layers.4.weight"): 2e-8}
    assert check(make(400, rounding)) is None
    small = rounding | {("gradient/norm", "layers.4.weight"): 1e-4}
    assert check(make(400, small)).where == ("layers.4.weight",)


def test_cannot_know_with_neither_list_nor_updates(make):
    updates = {("update/norm", f"layers.{2 * d}.weight"): None for d in range(5)}
    with pytest.raises(NotApplicable, match="no list of parameters"):
        check(make(400, updates, parameters=lambda rows: []))


def test_fires_where_no_step_was_ever_taken():
    rows = [
        {"name": "weight", "shape": [3, 2], "trainable": True, "in_optimizer": True, "has_gradient": True}
    ]
    events = [Event("parameters", -1, "", rows), Event("never_stepped", -1, "", {"backwards": 40})]
    found = check(record_of({}, events=events, stream="model"))
    assert (found.severity, found.where) == ("error", ("weight",))
    assert [e.value for e in found.evidence] == [6, 6, 40]


def test_fires_on_another_model_that_no_optimizer_holds_until_it_is_moved(make):
    told = Event("left_out", 32, "", {"parameters": {"encoder.weight": [64, 64], "encoder.bias": [64]}})
    found = check(make(events=[told]))
    assert (found.severity, found.where) == ("error", ("encoder.weight", "encoder.bias"))
    assert found.evidence[0].value == 64 * 64 + 64
    assert found.evidence[1].value == 4 * (64 * 64 + 64) + 10 * 64 + 10 + found.evidence[0].value
    assert check(make(events=[told, Event("left_out", 64, "", {"parameters": {}})])) is None
