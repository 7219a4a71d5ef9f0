"""Test ``vario.rules.learning_rate_decayed_too_early``: fires, stays silent, cannot know."""

from __future__ import annotations

import numpy as np
import pytest

from vario.nouns import NotApplicable
from vario.record import Event
from vario.rules.learning_rate_decayed_too_early import check


def levels_off(steps, values):
    return steps, 1.2 + 1.1 * np.exp(-steps / 20) + 0.02 * np.random.default_rng(3).standard_normal(
        len(steps)
    )


def exponential(factor, every):
    return lambda steps, values: (steps, 0.1 * factor ** (steps // every))


def test_fires_where_a_schedule_meant_for_epochs_is_stepped_per_batch(make):
    schedule = Event("scheduler", 0, "", {"class": "ExponentialLR", "steps_per_epoch": 50})
    record = make(
        400, {"loss/train": levels_off, ("hyper/lr", "group 0"): exponential(0.95, 1)}, events=[schedule]
    )
    found = check(record)
    below = int(np.ceil(np.log(0.01) / np.log(0.95)))
    assert found.steps[0] == below
    spent = next(e for e in found.evidence if e.name == "share of steps after the decay")
    assert spent.value == pytest.approx(1 - below / 400)
    assert any(e.name == "scheduler steps per epoch" and e.value == 50 for e in found.evidence)


def test_a_rate_that_comes_back_was_not_taken_away(make):
    """As where it jumps for single steps, few of which were read."""

    def found(*jumps):
        rate = np.full(400, 1e-3)
        rate[list(jumps)] = 0.3
        return check(make(400, {"loss/train": levels_off, ("hyper/lr", "group 0"): rate}))

    assert found(50, 100) is None
    assert found(50) is not None
    assert found(50, 51) is not None


def test_a_group_that_is_left_early_is_not_the_schedule(make):
    """A first layer that is trained for a third of the run, to below zero, beside others that go on."""
    line = 0.05 * (1 - np.arange(400) / 140)
    changes = {"loss/train": levels_off, ("hyper/lr", "group 0"): line}
    assert check(make(400, changes)).steps[0] == 139
    others = {("hyper/lr", "group 1"): 0.2 * (1 - np.arange(400) / 400), ("hyper/lr", "group 2"): 0.0}
    assert check(make(400, changes | others)) is None
    assert check(make(400, changes | {("hyper/lr", "group 1"): np.maximum(4 * line, 0)})).steps[0] == 139


@pytest.mark.parametrize(
    "rate",
    [
        lambda t: 0.1 * 0.95 ** (t // 50),
        lambda t: 0.05 * (1 + np.cos(np.pi * t / 400)),
        lambda t: 0.1 * 0.1 ** (1 * (t >= 200) + (t >= 300) + (t >= 360)),
        lambda t: 0.1 * np.minimum(t / 300, 1),
    ],
    ids=["per epoch", "cosine", "three decays", "long warm-up"],
)
def test_silent_on_usual_schedules(make, rate):
    record = make(400, {"loss/train": levels_off, ("hyper/lr", "group 0"): rate(np.arange(400))})
    assert check(record) is None


def test_fires_on_two_decays_by_ten_in_the_first_batches(make):
    """Milestones 3 and 5, meant for epochs: exactly 1 % of the rate is left, give or take a rounding."""
    rate = np.full(400, 0.1)
    rate[3:] *= 0.1
    rate[5:] *= 0.1
    found = check(make(400, {"loss/train": levels_off, ("hyper/lr", "group 0"): rate}))
    assert found.steps[0] == 5


def test_silent_where_the_loss_had_arrived(make):
    done = lambda steps, values: (steps, 2.3 * np.exp(-steps / 5) + 0.01)  # noqa: E731
    record = make(400, {"loss/train": done, ("hyper/lr", "group 0"): exponential(0.95, 1)})
    assert check(record) is None


def test_works_on_ten_million_steps_seen_rarely(make):
    at = np.arange(0, 10_000_000, 10_000)
    record = make(
        changes={"loss/train": levels_off, ("hyper/lr", "group 0"): exponential(0.5, 100_000)}, at=at
    )
    found = check(record)
    assert found.steps[0] == 700_000


def test_a_rate_that_was_lowered_because_results_stood_still_is_advice(make):
    answers = Event("scheduler", 0, "", {"class": "ReduceLROnPlateau"})
    changes = {"loss/train": levels_off, ("hyper/lr", "group 0"): exponential(0.95, 1)}
    found = check(make(400, changes, events=[answers]))
    assert (found.severity, found.confidence) == ("advice", 0.5)
    assert check(make(400, changes)).severity == "warning"


def test_cannot_know_without_a_learning_rate(make):
    with pytest.raises(NotApplicable, match="hyper/lr"):
        check(make(400, {("hyper/lr", "group 0"): None}))
