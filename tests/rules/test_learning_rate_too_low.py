"""Test ``vario.rules.learning_rate_too_low``: fires, stays silent, cannot know."""

from __future__ import annotations

import numpy as np
import pytest

from vario.nouns import NotApplicable
from vario.rules.learning_rate_too_low import check

N = np.arange(400)


def slowly(steps, values):
    draw = np.random.default_rng(1)
    return steps, 2.3 - 0.3 * steps / steps[-1] + 0.05 * draw.standard_normal(len(steps))


def test_fires_on_a_straight_line_with_tiny_steps(make):
    found = check(make(400, {"loss/train": slowly, "update/ratio": 3e-5}))
    assert found.severity == "warning"
    rate = next(e for e in found.evidence if e.name == "learning rate")
    assert rate.limit == pytest.approx(0.1 * 3e-3 / 3e-5)


def test_fires_on_a_straight_line_of_held_out_losses_under_noisy_batches(make):
    draw = np.random.default_rng(3).standard_normal(400)
    noisy = {"loss/train": 1.0 + 0.3 * draw, "update/ratio": 7e-5}
    line = {("eval/loss", "loader 1"): (np.arange(19, 400, 20), np.linspace(0.816, 0.8, 20))}
    assert check(make(400, noisy)) is None
    assert check(make(400, noisy | line)).severity == "warning"


def test_silent_on_a_healthy_run_also_with_small_steps_that_have_done_their_work(make):
    assert check(make()) is None
    assert check(make(400, {"update/ratio": 3e-5})) is None


def test_silent_where_steps_are_not_small(make):
    assert check(make(400, {"loss/train": slowly})) is None


def test_silent_on_a_flat_loss_which_has_another_cause(make):
    draw = np.random.default_rng(2).standard_normal(400)
    assert check(make(400, {"loss/train": 2.3 + 0.01 * draw, "update/ratio": 1e-4})) is None


def test_fires_where_nothing_moved_at_all(make):
    draw = np.random.default_rng(2).standard_normal(400)
    found = check(make(400, {"loss/train": 2.3 + 0.01 * draw, "update/ratio": 1e-5}))
    assert next(e for e in found.evidence if e.name == "path of the weights").value == pytest.approx(0.004)


def test_fires_on_a_longer_path_of_tiny_steps(make):
    """As of batches of one, whose steps lead hither and thither."""
    draw = np.random.default_rng(2).standard_normal(2000)
    flat = {"loss/train": 2.3 + 0.01 * draw}
    assert check(make(2000, flat | {"update/ratio": 2e-5})) is not None  # 0.04 in all
    assert check(make(2000, flat | {"update/ratio": 4e-5})) is None  # 0.08
    assert check(make(400, flat | {"loss/train": flat["loss/train"][:400], "update/ratio": 1e-4})) is None


def test_fires_where_an_opponent_learns_and_the_weights_stay(make):
    def rises(ratio):
        return check(make(400, {"loss/train": lambda s, v: (s, 0.7 + s / 40), "update/ratio": ratio}))

    assert rises(2e-5) is not None  # 400 steps lead 0.8 % far
    assert rises(1e-4) is None  # 4 %: there its own steps may have raised it


def test_cannot_know_from_19_steps(make):
    with pytest.raises(NotApplicable, match="19 readings"):
        check(make(19))


def test_fires_on_a_straight_line_of_six_held_out_losses(make):
    draw = np.random.default_rng(3).standard_normal(400)
    noisy = {"loss/train": 1.0 + 0.3 * draw, "update/ratio": 7e-5}
    where = ("eval/loss", "loader 1")
    at = np.arange(65, 400, 66)
    line = {where: (at, np.linspace(0.816, 0.8, 6) + 1e-4 * np.array([1, -1, 1, 0, -1, 1]))}
    wandering = {where: (at, np.array([0.81, 0.80, 0.82, 0.79, 0.81, 0.79]))}
    assert check(make(400, noisy | line)).severity == "warning"
    assert check(make(400, noisy | wandering)) is None


def test_fires_on_a_run_that_is_only_leaving_its_start(make):
    """Ten classes: 2.30 at the start, 2.26 at the end, faster and faster, by usual but small steps."""
    noise = 0.01 * np.random.default_rng(4).standard_normal(250)
    gathers = {"loss/train": lambda s, v: (s, 2.303 - 0.06 * (s / s[-1]) ** 3 + noise), "update/ratio": 7e-4}
    slows = {"loss/train": lambda s, v: (s, 2.303 - 0.06 * np.sqrt(s / s[-1]) + noise)}
    assert check(make(250, gathers)).severity == "warning"
    assert check(make(250, gathers | slows)) is None
    assert check(make(250, gathers | {"update/ratio": 1.5e-3})) is None  # a larger one would be unusual
    assert (
        check(make(900, gathers | {"loss/train": lambda s, v: (s, 2.303 - 0.06 * (s / s[-1]) ** 3)})) is None
    )


def test_fires_on_a_run_that_ended_while_its_loss_fell_ever_faster(make):
    """Ten digits, eight epochs at a rate far too small: 2.31 at the start, 2.07 at the end."""
    noise = 0.02 * np.random.default_rng(4).standard_normal(250)

    def ends_at(low):
        return {"loss/train": lambda s, v: (s, 2.31 - (2.31 - low) * (s / s[-1]) ** 1.5 + noise)}

    small = {"update/ratio": 8e-4}
    assert check(make(250, ends_at(2.07) | small)).severity == "warning"
    assert check(make(250, ends_at(1.5) | small)) is None  # much is won: such a run is on its way


def test_fires_where_much_is_won_and_the_loss_falls_ever_faster(make):
    noise = 0.01 * np.random.default_rng(3).standard_normal(400)

    def run(power, ratio=4e-4):
        falls = {"loss/train": lambda s, v: (s, 2.3 - 1.2 * (s / s[-1]) ** power + noise)}
        return check(make(400, falls | {"update/ratio": ratio}))

    assert run(2.0).severity == "warning"
    assert run(0.5) is None  # it levels off
    assert run(2.0, ratio=8e-4) is None  # with larger steps and so much won it is on its way


def test_fires_where_only_the_whole_of_a_noisy_start_tells_that_the_loss_falls(make):
    """As a linear classifier after 200 steps at a fifth of the rate that it needs: 32 % right."""
    draw = np.random.default_rng(0)

    def run(falls):
        steps = np.unique(np.geomspace(1, 200, 58).astype(int)) - 1
        level = 2.35 - (0.17 * steps / 200 if falls else 0.17 * (steps > 20))
        values = level + 0.06 * draw.standard_normal(len(steps))
        return make(200, {"loss/train": (steps, values), "update/ratio": 7e-4})

    assert check(run(True)).id == "learning-rate-too-low"
    assert check(run(False)) is None


def test_fires_where_a_long_path_of_small_steps_is_still_straight(make):
    """As digits after two epochs at a hundredth of the rate: the weights moved by a fifth."""
    noise = 0.05 * np.random.default_rng(5).standard_normal(2000)

    def run(ratio, bend):
        """Down an exponential of so many time constants."""
        falls = lambda s, v: (s, 2.3 - 1.2 * np.expm1(-bend * s / s[-1]) / np.expm1(-bend) + noise)  # noqa: E731
        return check(make(2000, {"loss/train": falls, "update/ratio": ratio}))

    assert run(1e-4, 1.0) is not None
    assert run(1e-4, 3.0) is None  # it levels off
    assert run(4e-4, 1.0) is None  # eight tenths of the weights
    assert check(make(450, {"loss/train": run_of(noise[:450]), "update/ratio": 4e-4})) is None  # a usual step


def test_fires_on_a_straight_line_of_small_steps_where_little_has_been_won(make):
    """A tenth of the start in 300 steps that moved the weights by an eighth; gathering speed is not asked."""
    noise = 0.005 * np.random.default_rng(7).standard_normal(300)

    def run(ratio, line):
        loss = {"loss/train": lambda s, v: (s, 2.3 - 0.3 * line(s / s[-1]) + noise), "update/ratio": ratio}
        return check(make(300, loss))

    assert run(4e-4, lambda part: part).severity == "warning"
    assert run(4e-4, lambda part: 1 - np.exp(-6 * part)) is None
    assert run(7e-4, lambda part: part**0.9) is None  # larger steps: there it must fall ever faster


def run_of(noise):
    return lambda s, v: (s, 2.3 - 1.2 * s / s[-1] + noise)


def test_fires_where_weights_stayed_and_only_the_whole_curve_tells_that_the_loss_falls(make):
    noise = 0.2 * np.random.default_rng(10).standard_normal(330)
    falls = {"loss/train": lambda s, v: (s, 1.0 - 0.35 * s / s[-1] + noise)}
    assert check(make(330, falls | {"update/ratio": 2e-5})) is not None
    rests = {"loss/train": lambda s, v: (s, 0.3 + 1.7 * np.exp(-s / 10) + noise)}
    assert check(make(330, rests | {"update/ratio": 2e-5})) is None


def test_cannot_know_of_a_loss_at_rest_above_its_floor(make):
    """P345: no run at one rate tells of minima that it never saw."""
    steps = np.arange(400)
    fallen = np.exp(-steps / 15)
    rest = {"loss/train": 0.25 + fallen, "gradient/norm": fallen + 1e-9, "update/ratio": 1e-3 * fallen + 1e-9}
    with pytest.raises(NotApplicable, match="come to rest at 0.25"):
        check(make(400, rest))
    assert check(make(400, rest | {"loss/train": fallen})) is None  # at its floor
    assert check(make(400, rest | {"gradient/norm": 1.0})) is None  # noise goes on


def test_what_brings_first_weights_down_to_a_guess_is_no_gain(make):
    """The first half loses ten times as much as the second, but only what the start cost above a guess."""

    def found(start, ratio=1e-4, later=0.1):
        falls = np.where(N < 200, start - (start - 2.42) * N / 200, 2.42 - later * (N - 200) / 200)
        loss = falls + 0.01 * np.random.default_rng(4).standard_normal(400)
        return check(make(400, {"loss/train": (N, loss), "update/ratio": ratio}))

    assert found(3.5).severity == "warning"
    assert found(3.5, later=0.0) is None  # it stays at a guess for another reason
    assert found(3.5, ratio=5e-4) is None  # the weights have gone far
