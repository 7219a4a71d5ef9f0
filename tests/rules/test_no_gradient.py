"""Test ``vario.rules.no_gradient``: fires, stays silent, cannot know."""

from __future__ import annotations

import numpy as np
import pytest

from vario.nouns import Evidence, Finding, NotApplicable
from vario.rules._diagnose import rank
from vario.rules.no_gradient import check


def zero(*names, since=0):
    return {("gradient/norm", n): lambda s, v: (s, np.where(s >= since, 0.0, v)) for n in names}


def test_fires_on_a_part_that_never_had_a_gradient(make):
    for illness in (zero("layers.0.weight"), {("gradient/norm", "layers.0.weight"): None}):
        found = check(make(400, illness))
        assert (found.severity, found.where) == ("warning", ("layers.0.weight",))


def test_is_an_error_where_most_of_a_failing_model_has_none_and_says_since_when(make):
    names = [f"layers.{2 * d}.{kind}" for d in range(4) for kind in ("weight", "bias")]
    found = check(make(400, {"loss/train": 2.303} | zero(*names, since=30)))
    assert found.severity == "error"
    assert found.steps[0] == 30


def without_gradients(updates):
    names = ["", *(f"layers.{2 * d}.{kind}" for d in range(5) for kind in ("weight", "bias"))]
    return {("gradient/norm", n): None for n in names} | {"update/norm": updates, "loss/train": 2.303}


def test_is_an_error_where_the_optimizer_holds_another_model(make):
    found = check(make(400, without_gradients(0.0)))
    assert (found.severity, len(found.where)) == ("error", 10)
    with pytest.raises(NotApplicable, match="0 readings of gradient/norm"):
        check(make(400, without_gradients(0.1)))  # the weights move: gradients were only not read


def test_a_branch_that_is_not_asked_is_advice_in_a_run_that_learns_and_a_cut_is_not(make):
    branch = zero("layers.6.weight", "layers.6.bias")
    assert check(make(400, branch)).severity == "advice"
    assert check(make(400, branch | {"loss/train": 2.303})).severity == "warning"
    below = [f"layers.{2 * d}.{kind}" for d in range(3) for kind in ("weight", "bias")]
    assert check(make(400, zero(*below))).severity == "warning"


def test_a_bias_that_cancels_is_advice_only_where_the_run_fails_or_it_was_never_reached(make):
    """The distance of two outputs has no gradient for the last bias, and is none the worse for it."""
    assert check(make(400, zero("layers.8.bias"))) is None
    assert check(make(400, {("gradient/norm", "layers.8.bias"): None})).severity == "advice"
    assert check(make(400, {"loss/train": 2.303} | zero("layers.8.bias"))).severity == "warning"


def test_silent_on_a_healthy_run_and_on_gradients_that_come_and_go(make):
    assert check(make()) is None
    sometimes = {("gradient/norm", "layers.0.weight"): lambda s, v: (s, np.where(s % 10, 0.0, v))}
    assert check(make(400, sometimes)) is None


def test_silent_on_frozen_parameters(make):
    frozen = lambda rows: [r | {"trainable": r["name"] != "layers.0.weight"} for r in rows]  # noqa: E731
    assert check(make(400, {("gradient/norm", "layers.0.weight"): None}, parameters=frozen)) is None


def test_cannot_know_from_four_readings(make):
    with pytest.raises(NotApplicable, match="4 readings of gradient/norm; 5"):
        check(make(4))


def test_what_never_had_a_gradient_does_not_come_of_the_state_of_another_model():
    """A generator whose pictures were detached, beside a discriminator that knows them all."""

    def first(*since):
        sizes = ("parameters without gradient", "all parameters", *since)
        told = tuple(Evidence(name, 9.0, 9.0, 9.0, 0) for name in sizes)
        cut = Finding("no-gradient", "error", 0.9, ("w",), (0, 99), told, stream="G")
        collapsed = Finding("softmax-collapse", "advice", 0.95, (), (50, 99), (), stream="D")
        return rank([collapsed, cut])[0].id

    assert first() == "no-gradient"
    assert first("gradient is zero since step") == "softmax-collapse"
