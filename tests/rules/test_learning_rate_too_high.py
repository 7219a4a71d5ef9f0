"""Test ``vario.rules.learning_rate_too_high``: fires, stays silent, cannot know."""

from __future__ import annotations

import numpy as np
import pytest

from vario.nouns import NotApplicable
from vario.record import Event
from vario.rules import diagnose
from vario.rules.learning_rate_too_high import check


def stuck_after_explosion(steps, values):
    return steps, np.where(steps < 5, 2.3 * 10.0 ** np.minimum(steps, 5), 2.303 + 0.02 * np.sin(steps))


def early(height, low=1e-3):
    return lambda steps, values: (steps, np.where(steps < 20, height, low))


def test_fires_where_the_loss_explodes_and_sits_at_a_guess_afterwards(make):
    found = check(make(400, {"loss/train": stuck_after_explosion, "update/ratio": early(0.5)}))
    assert found.severity == "error"
    rate = next(e for e in found.evidence if e.name == "learning rate")
    assert (rate.value, rate.limit) == pytest.approx((0.1, 0.1 * 0.01 / 0.5))


def test_fires_where_relu_units_died_from_it_without_an_explosion_in_the_loss(make):
    record = make(400, {"loss/train": 2.303, "update/ratio": early(0.3, 0.0)})
    assert check(record) is not None


def test_fires_where_the_run_is_no_longer_a_number_at_the_second_step(make):
    def broken(steps, values):
        return steps, np.where(steps < 2, [2.3 * 50.0**s for s in range(len(steps))], np.nan)

    nothing = lambda steps, values: (steps, np.where(steps < 1, 0.8, np.nan))  # noqa: E731
    found = check(make(30, {"loss/train": broken, "update/ratio": nothing}))
    assert found.severity == "error"


def test_a_loss_that_ceased_to_be_a_number_at_the_fourth_step_is_enough_and_a_short_run_is_not(make):
    ratio = (np.arange(3), np.array([5.0, 0.7, 0.35]))
    gone = {"loss/train": (np.arange(4), np.array([3e4, 5e7, 2e17, np.inf])), ("update/ratio", ""): ratio}
    assert check(make(4, gone)).severity == "error"
    with pytest.raises(NotApplicable, match="4 readings"):
        check(make(4, gone | {"loss/train": (np.arange(4), np.array([3e4, 5e7, 2e17, 2e17]))}))


def test_silent_with_large_steps_in_a_run_that_learns(make):
    assert check(make(400, {"update/ratio": 0.08})) is None
    assert check(make()) is None


@pytest.mark.parametrize(
    ("start", "step", "fires"),
    [(8.0, 0.3, True), (8.0, 0.05, False), (0.1, 0.3, False)],
    ids=["replaced", "hardly moved", "from next to nothing"],
)
def test_fast_matrices_of_a_run_that_learns_must_be_replaced_and_not_start_near_zero(
    make, start, step, fires
):
    """Slow, not failing: steps of 30 % in every matrix count where they add up. Those that go back and forth,
    as of a text whose loss has no further to fall, and matrices that started at next to nothing do not."""
    slow = {"loss/train": lambda s, v: (s, 1.6 + 0.7 * np.exp(-s / 40))}
    for depth in range(5):
        slow["update/ratio", f"layers.{2 * depth}.weight"] = early(0.3)
        slow["weight/norm", f"layers.{2 * depth}.weight"] = lambda s, v: (
            s,
            start * (1 + step**2) ** (np.minimum(s, 20) / 2),
        )
    slow = {k: v(np.arange(400), None) if isinstance(k, tuple) else v for k, v in slow.items()}
    assert (check(make(400, slow)) is not None) == fires
    stuck = slow | {"loss/train": 2.303}
    assert (check(make(400, stuck)) is not None) == (start > 1)  # one that fails needs no such witness


@pytest.mark.parametrize(("start", "fires"), [(0.04, False), (0.4, True)])
def test_steps_over_matrices_that_began_near_zero_are_taken_over_usual_ones(make, start, fires):
    """Weights drawn too short double in their first steps; the biases beside them hide it in the norm."""
    rows = {f"layers.{2 * d}.weight": s for d, s in enumerate((64, 64, 64, 64, 10))}
    usual = sum(rows.values()) ** 0.5
    grows = np.where(np.arange(400) < 20, 0.15, 0.6) * usual
    slow = {"loss/train": 2.303, "update/ratio": early(0.15), "weight/norm": (np.arange(400), grows)}
    matrices = {
        ("weight/norm", name): (np.arange(400), np.full(400, start * count**0.5))
        for name, count in rows.items()
    }
    assert (check(make(400, slow | matrices)) is not None) == fires


def test_silent_on_a_loss_around_zero_which_cannot_forget(make):
    """A policy's loss: a while below zero is nothing that was won, and coming back is no loss of it."""
    steps = np.arange(400)
    hovering = 0.02 * (-1.0) ** steps - 1.3 * ((steps > 20) & (steps < 100))
    assert check(make(400, {"loss/train": hovering, "update/ratio": early(0.05)})) is None
    assert check(make(400, {"loss/train": hovering + 2, "update/ratio": early(0.05)})) is not None


def test_silent_where_a_run_fails_with_small_steps(make):
    assert check(make(400, {"loss/train": 2.303})) is None


@pytest.mark.parametrize(
    ("ratio", "loss", "steps", "fires"),
    [
        (0.045, 2.303, 400, True),
        (0.045, 2.303, 200, False),
        (0.025, 2.303, 600, False),
        (early(0.045, 0.01), 2.303, 400, False),
        (0.045, None, 400, False),
    ],
)
def test_usual_steps_that_replace_the_weights_ten_times_over_are_too_large_where_the_run_fails(
    make, ratio, loss, steps, fires
):
    changes = {"update/ratio": ratio} | ({"loss/train": loss} if loss else {})
    found = check(make(steps, changes))
    assert (found is not None) == fires
    told = [(e.value, e.limit) for e in found.evidence if e.name == "usual update ratio"] if found else []
    assert told == ([(pytest.approx(0.045), 0.03)] if fires else [])


def test_silent_where_nan_came_from_the_data(make):
    broken = lambda steps, values: (steps, np.where(steps >= 100, np.nan, values))  # noqa: E731
    record = make(400, {"loss/train": broken, "update/ratio": broken})
    assert check(record) is None


def test_works_on_a_tenth_of_the_steps(make):
    sampled = (np.arange(0, 4000, 10), np.where(np.arange(400) < 20, 0.5, 1e-3))
    record = make(4000, {"loss/train": stuck_after_explosion, "update/ratio": sampled})
    assert check(record) is not None


def test_cannot_know_without_updates(make):
    with pytest.raises(NotApplicable, match="update/ratio"):
        check(make(400, {"update/ratio": None, "loss/train": 2.3}))


def forgets(steps, values):
    draw = np.random.default_rng(9).standard_normal(len(steps))
    return steps, np.where(steps < 20, 4.8 - 0.1 * steps, 2.6 + 0.5 * (steps > 60)) + 0.05 * draw


def test_fires_where_the_training_loss_fell_and_rose_again_under_large_steps(make):
    found = check(make(400, {"loss/train": forgets, "update/ratio": early(0.05), "batch/class_counts": None}))
    lost = next(e for e in found.evidence if e.name == "share of the progress that was lost again")
    assert found.severity == "warning" and lost.value == pytest.approx(0.5 / 2.2, rel=0.2)
    assert check(make(400, {"loss/train": forgets, "update/ratio": 3e-3})) is None


def test_fires_where_matrices_are_replaced_in_steps_that_a_large_embedding_hides(make):
    matrices = {
        ("update/ratio", f"layers.{2 * d}.weight"): (np.arange(400), np.full(400, 1.0)) for d in range(5)
    }
    slow = {"loss/train": lambda s, v: (s, 1.8 + 0.5 * np.exp(-s / 5)), "update/ratio": early(0.04)}
    assert check(make(400, slow | matrices)).severity == "warning"
    assert check(make(400, slow)) is None
    assert check(make(400, matrices)) is None  # it learns


@pytest.mark.parametrize(("longest", "severity"), [(0.99, "advice"), (1.01, "warning")])
def test_a_step_longer_than_the_weights_is_harm_though_the_run_learns(make, longest, severity):
    """Three of five matrices take it, once, among steps of .5 that drive the loss up for a while."""
    at, recovers = np.arange(400), lambda s, v: (s, np.where((s > 2) & (s < 20), 30.0, v))
    run = {"loss/train": recovers, "update/ratio": early(0.2)}
    for depth in range(5):
        ratio = np.where(at < 20, 0.5, 1e-3)
        ratio[7] = longest if depth < 3 else 0.5
        run["update/ratio", f"layers.{2 * depth}.weight"] = at, ratio
    (found,) = diagnose(make(400, run), ["learning_rate_too_high"]).findings
    named = [
        e.value for e in found.evidence if e.name == "update ratio of a typical matrix in its longest step"
    ]
    assert found.severity == severity and named == ([longest] if longest > 1 else [])


@pytest.mark.parametrize(("matrices", "severity"), [(1, "advice"), (2, "warning")])
def test_of_a_model_of_one_matrix_where_it_starts_is_all_the_same(make, matrices, severity):
    """As of a linear machine whose method begins with steps of twenty times its weights."""
    at, explodes = np.arange(400), lambda s, v: (s, np.where(s == 2, 30.0, v))
    run = {"loss/train": explodes, "update/ratio": early(0.2)}
    for layer in range(matrices):
        run["update/ratio", f"layers.{2 * layer}.weight"] = at, np.where(at == 0, 20.0, 1e-3)
    (found,) = diagnose(make(400, run), ["learning_rate_too_high"]).findings
    assert found.severity == severity


@pytest.mark.parametrize(("step", "fires"), [(2, True), (12, True), (60, False)])
def test_of_every_loss_one_is_an_explosion_only_among_the_first(make, step, fires):
    """Of single batches of later steps nothing is said before a tenth of them lies as high."""
    explodes = lambda s, v: (s, np.where(s == step, 30.0, v))  # noqa: E731
    assert (check(make(1000, {"loss/train": explodes, "update/ratio": 0.2})) is not None) == fires


def test_each_second_witness_has_its_own_limit(make):
    stuck = {"loss/train": 2.303, "update/ratio": 0.025}
    assert check(make(400, stuck)) is None
    assert check(make(400, {"loss/train": stuck_after_explosion, "update/ratio": 0.05})) is not None
    assert check(make(400, {"loss/train": stuck_after_explosion, "update/ratio": 0.01})) is None
    assert check(make(400, stuck | {"gradient/cosine": -0.5})) is not None
    assert check(make(400, stuck | {"gradient/cosine": -0.1})) is None
    assert check(make(400, stuck | {"gradient/cosine": (np.arange(5), np.full(5, -0.5))})) is None


def test_an_early_explosion_counts_also_where_the_run_recovers(make):
    recovers = lambda s, v: (s, np.where(s < 50, 20.0, v))  # noqa: E731
    recovers_from = lambda s, v: (s, np.where((s > 10) & (s < 50), 20.0, v))  # noqa: E731
    large = {"update/ratio": 0.2}
    assert check(make(400, {"loss/train": recovers_from} | large)).severity == "warning"
    assert check(make(400, {"loss/train": recovers} | large)) is None  # it began there
    assert check(make(400, {"loss/train": recovers_from, "update/ratio": 0.05})) is None


def test_the_rate_that_it_names_is_for_the_weights_as_they_were_before_the_explosion(make):
    def swollen(steps, values):
        return steps, np.where(steps < 1, 200.0, 0.5)

    found = check(make(400, {"loss/train": stuck_after_explosion, "update/ratio": swollen}))
    rate = next(e for e in found.evidence if e.name == "learning rate")
    before = next(e for e in found.evidence if e.name == "update ratio before the loss exploded")
    assert before.value == 200 and rate.limit == pytest.approx(0.1 * 0.01 / 200)


def test_the_rate_is_that_of_the_step_that_was_too_large(make):
    """A schedule has taken most of the rate away by the end; the advice is about the step."""
    decayed = {("hyper/lr", "group 0"): lambda s, v: (s, 0.1 * (1 - s / 400))}
    wild = {"update/ratio": lambda s, v: (s, np.where(s < 10, 0.5, 1e-3)), "loss/train": 2.303}
    rate = next(e for e in check(make(400, decayed | wild)).evidence if e.name == "learning rate")
    assert rate.value == pytest.approx(0.1, rel=0.03)


@pytest.mark.parametrize(("steps", "fires"), [(2, False), (20, True)])
def test_a_few_long_first_steps_destroy_nothing_whatever_a_run_fails_for(make, steps, fires):
    """As of Adadelta, whose labels were shuffled: 15 % of the weights, twice."""
    first = {"update/ratio": lambda s, v: (s, np.where(s < steps, 0.15, 5e-3)), "loss/train": 2.303}
    assert (check(make(400, first)) is not None) == fires


def test_the_first_steps_of_rmsprop_are_no_witness(make):
    """It divides by a mean that starts at zero: its first steps are ten times as long."""
    steps = np.arange(400)
    slow = {"loss/train": (steps, 1.6 + 0.7 * np.exp(-steps / 40))}
    for depth in range(5):
        slow["update/ratio", f"layers.{2 * depth}.weight"] = (steps, np.where(steps < 8, 0.3, 0.01))
    assert check(make(400, slow, events=[Event("optimizer", 0, "", {"class": "RMSprop"})])) is None
    assert check(make(400, slow, events=[Event("optimizer", 0, "", {"class": "Adam"})])) is not None


def test_cannot_know_where_batchnorm_was_left_in_eval_mode_while_the_run_was_learning(make):
    steps = np.arange(400)
    learned = 2.3 * np.exp(-steps / 30)
    loss = np.where(steps < 100, learned, 50.0)
    failed = {"loss/train": (steps, loss), "update/ratio": (steps, np.where(steps < 100, 0.01, 0.5))}
    mode = {("mode/train_share", "BatchNorm2d"): (steps, np.where(steps < 90, 1.0, 0.0))}
    with pytest.raises(NotApplicable, match="eval mode"):
        check(make(400, failed | mode))
    assert check(make(400, failed)).severity == "error"
    bad = {**failed, "loss/train": (steps, np.full(400, 50.0)), "update/ratio": (steps, np.full(400, 0.5))}
    assert check(make(400, bad | mode)) is not None, "it was not learning before"


@pytest.mark.parametrize(
    ("learns_from", "falls", "fires"),
    [(250, True, True), (60, True, False), (250, False, False)],
    ids=["learns when the rate falls", "learned before", "the rate never falls"],
)
def test_what_learns_only_when_a_schedule_lowers_the_rate_had_too_high_a_one(make, learns_from, falls, fires):
    rate = np.where(np.arange(400) < 260, 1.0, 0.1) if falls else np.ones(400)
    learned = lambda s, v: (s, np.where(s < learns_from, 2.3, 0.3) + 0.02 * np.sin(s))  # noqa: E731
    late = {
        "loss/train": learned,
        "update/ratio": early(0.3),
        ("hyper/lr", "group 0"): (np.arange(400), rate),
    }
    found = check(make(400, late))
    assert (found is not None) == fires
    if fires:
        assert found.evidence[-1].value == pytest.approx(260 / 400)


@pytest.mark.parametrize(
    ("first", "ratio", "fires"), [(2.0, 0.3, True), (2.0, 0.03, False), (60.0, 0.3, False)],
    ids=["large steps killed them", "small steps", "dead from the start"],
)  # fmt: skip
def test_steps_that_kill_nearly_all_units_are_too_large_although_the_rest_learns(make, first, ratio, fires):
    dead = {
        ("activation/dead_channels", "layers.0"): np.where(np.arange(400) < 3, first, 62.0),
        ("activation/channels", "layers.0"): 64.0,
        "update/ratio": early(ratio),
    }
    assert (check(make(400, dead)) is not None) == fires


@pytest.mark.parametrize("grows", ["terms", "terms of measured steps", "each", "unknown"])
def test_a_sum_over_ever_longer_episodes_is_judged_by_its_terms(make, grows):
    """The loss of an episode grew fiftyfold: with the number of its steps, or that of each of them."""
    growth = np.geomspace(1, 50, 400)
    changes = {"loss/train": lambda at, loss: (at, loss * growth), "update/ratio": 0.3}
    if grows != "unknown":
        changes["loss/terms"] = 20 * growth if grows.startswith("terms") else 20.0
    if grows == "terms of measured steps":
        at = np.arange(0, 400, 5)
        changes["loss/terms"] = at, 20 * growth[at]
    found = check(make(400, changes))
    assert (found is None) == grows.startswith("terms")
