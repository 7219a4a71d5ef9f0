"""Test ``vario.rules._evidence`` and ``_course``: intervals hold what they promise, edges are decided."""

from __future__ import annotations

import numpy as np
import pytest

from vario.nouns import Finding
from vario.rules._course import chance_loss, course
from vario.rules._evidence import first_step, level, share, spikes, trend
from vario.rules._examples import rate
from vario.rules._noise import noise_scale


def covered(estimates, truth):
    return np.mean([e.low <= truth <= e.high for e in estimates])


def test_level_covers_the_median():
    draw = np.random.default_rng(0)
    assert 0.9 <= covered([level(draw.standard_normal(400)) for _ in range(400)], 0.0) <= 0.99


def test_trend_covers_the_slope_and_survives_outliers():
    draw = np.random.default_rng(1)
    steps = np.arange(300)
    noise = lambda: draw.standard_t(1.5, 300)  # noqa: E731
    assert 0.9 <= covered([trend(steps, 2.0 * steps / 299 + noise()) for _ in range(400)], 2.0) <= 0.99
    assert trend(steps, steps * 3.0).value == pytest.approx(3.0 * 299)


@pytest.mark.parametrize("count", (5, 6, 8, 12))
def test_a_trend_of_few_readings_covers_the_slope_from_either_side(count):
    """By Kendall's exact distribution: five readings in one order have an interval, four have none."""
    draw, at = np.random.default_rng(count), np.arange(count)
    found = [trend(at, at + draw.standard_normal(count)) for _ in range(2000)]
    below, above = np.mean([[e.low > count - 1, e.high < count - 1] for e in found], axis=0)
    assert max(below, above) < 0.035
    assert 0.015 < below + above < 0.06 or count < 8
    assert np.isinf(trend(np.arange(4), np.arange(4.0)).high)


def test_share_is_wilsons_interval():
    found = share(np.array([True] * 10 + [False] * 10))
    assert (found.low, found.value, found.high) == pytest.approx((0.2993, 0.5, 0.7007), abs=1e-4)


def test_the_noise_scale_covers_the_truth(make):
    draw = np.random.default_rng(2)
    at, hits = np.arange(200), []
    for _ in range(200):
        signal, noise = 1 + 0.5 * draw.standard_normal(200), 300 + 30 * draw.standard_normal(200)
        record = make(200, {"gradient_noise/signal": (at, signal), "gradient_noise/noise": (at, noise)})
        hits.append(noise_scale(record).scale)
    assert covered(hits, 300.0) >= 0.88  # 20 blocks: a percentile bootstrap falls a little short of 95 %


def test_first_step_wants_it_to_last():
    steps = np.array([0, 10, 20, 30, 40])
    assert first_step(steps, np.array([False, True, False, True, True]), lasting=2) == 30
    assert first_step(steps, np.zeros(5, bool)) is None


def test_spikes_never_judges_the_first_block_and_ignores_rounding():
    values = np.ones(200)
    values[[20, 120]] = 50.0
    assert list(np.flatnonzero(spikes(values, 10.0))) == [120]
    assert not spikes(1 + 1e-7 * np.random.default_rng(3).standard_normal(200), 10.0).any()


@pytest.mark.parametrize(
    ("loss", "state"),
    [
        (lambda s: 2.3 * np.exp(-s / 50) + 0.1, "learning"),
        (lambda s: np.full(len(s), 2.303), "stuck"),
        (lambda s: 2.3 + s / 40, "worse"),
        (lambda s: np.where(s < 100, 2.3, np.nan), "non-finite"),
        (lambda s: np.where(s == 100, np.nan, 2.3 * np.exp(-s / 50)), "learning"),
        (lambda s: -s / 10.0, "learning"),
    ],
    ids=["learning", "stuck", "worse", "broken", "one broken step", "negative"],
)
def test_course_tells_how_a_run_goes(make, loss, state):
    assert course(make(400, {"loss/train": loss(np.arange(400))})).state == state


def test_a_gain_is_seen_through_batches_that_differ_by_more(make):
    """Targets that allow three tenths; single losses differ by more, yet the trend is sure. Chance is not."""
    steps = np.arange(400)
    learned, flat = [], []
    for seed in range(40):
        draw = np.random.default_rng(seed).normal(0, 0.35, len(steps))
        for losses, told in ((1 - 0.3 * steps / 400, learned), (np.ones(len(steps)), flat)):
            record = make(400, {"loss/train": (steps, losses + draw), "batch/class_counts": None})
            told.append(course(record).state == "learning")
    assert sum(learned) >= 32 and sum(flat) <= 2


def test_the_end_of_a_very_short_run_is_not_its_beginning_too(make):
    five = {"loss/train": np.array([0.69, 0.31, 0.016, 5e-4, 4e-5]), "batch/class_counts": None}
    assert course(make(5, five), count=5).state == "learning"
    flat = {"loss/train": np.array([0.69, 0.72, 0.66, 0.70, 0.68]), "batch/class_counts": None}
    assert course(make(5, flat), count=5).state == "stuck"


def test_a_fall_within_the_first_steps_counts_and_is_no_explosion(make):
    loss = np.concatenate([[0.7, 0.13, 0.1], np.full(37, 0.06)])
    run = course(make(40, {"loss/train": loss, "batch/class_counts": None}))
    assert run.start.value == 0.7 and run.peak == 0.7 and run.fall > 0.9
    first = [1.345, 0.466, 0.254, 0.213, 0.209, 0.201, 0.197, 0.215, 0.230, 0.242]  # of a discriminator
    rising = np.concatenate([first, np.linspace(0.25, 0.4, 1190)])  # as its opponent gets better
    run = course(make(1200, {"loss/train": rising, "batch/class_counts": None}))
    assert run.start.value == run.peak == 1.345 and run.state == "learning"
    loss[:3] = 0.7, 3.0, 0.9
    assert course(make(40, {"loss/train": loss})).peak > 3 * 0.7  # up and down again is one


@pytest.mark.parametrize("ratio", [1.0, 0.15])
def test_losses_after_a_step_of_a_tenth_of_the_weights_are_no_start(make, ratio):
    """A rate far too high: the first step doubles the loss, and what follows is no gain over that."""
    steps = np.arange(45)
    loss = np.where(steps == 0, 1.0, np.where(steps < 3, 2.0, 0.6))
    overthrown = {"loss/train": loss, "update/ratio": np.where(steps < 2, ratio, 0.05)}
    run = course(make(45, overthrown | {"batch/class_counts": None}))
    assert run.start.value == 1.0 and run.fall == pytest.approx(0.4)
    usual = overthrown | {"update/ratio": np.where(steps < 2, 0.1, 0.05), "batch/class_counts": None}
    assert course(make(45, usual)).start.value == 2.0


def test_a_loss_is_told_in_units_of_targets_that_grew(make):
    """Temporal differences: targets go from 1 to 20 while the error stays at a third of their spread."""
    steps = np.arange(400)
    noise = 0.3 * np.random.default_rng(2).random(400)
    grown = {
        "loss/train": 0.2 + noise,
        "batch/class_counts": None,
        "target/mean": 1 + steps / 20,
        "target/std": 0.1,
    }
    assert course(make(400, grown)).state == "learning"
    assert course(make(400, grown | {"target/mean": 1.0})).state == "stuck"
    assert course(make(400, grown | {"target/mean": 20 - steps / 22})).state == "stuck"  # not the other way
    hidden = course(make(400, grown | {"target/mean": None}))
    assert hidden.state == "stuck" and hidden.end.value == pytest.approx(0.35, rel=0.2)
    worse = grown | {"loss/train": 0.2 * 1.02**steps}
    assert course(make(400, worse)).state == "worse"


def test_chance_is_the_entropy_of_the_class_shares(make):
    counts = np.tile([30.0, 10.0], (50, 1))
    expected = -(0.75 * np.log(0.75) + 0.25 * np.log(0.25))
    assert chance_loss(make(50, {"batch/class_counts": (np.arange(50), counts)})) == pytest.approx(expected)
    assert np.isnan(chance_loss(make(50, {"batch/class_counts": None})))


def test_losses_of_single_examples_are_no_level(make):
    """Squared errors of one example each: the first ones may be lucky, and tripling is chance."""
    steps = np.unique(np.r_[np.arange(50), np.geomspace(50, 1400, 50).astype(int)])
    fooled = 0
    for seed in range(20):
        draw = np.random.default_rng(seed).standard_normal(len(steps))
        losses = np.where(steps < 150, 1.0, 0.3) * draw**2
        losses[:2] = 0.07, 0.03
        one = {"loss/train": (steps, losses), "batch/size": (steps, np.ones(len(steps)))}
        run = course(make(1400, one | {"batch/class_counts": None}))
        assert len(run.values) == len(losses)  # spikes are those of single steps, as before
        fooled += run.state == "worse" or run.peak > 3 * run.start.value
    # Of two means of ten squares one is three times the other in 5 of 100 cases (an F of 10 and 10).
    assert fooled <= 2


def test_an_interval_of_a_share_holds_the_share_and_a_confidence_is_a_probability():
    for count in range(1, 200):
        for part in (0.0, 1 / count, 1.0):
            found = rate(part, count)
            assert 0 <= found.low <= found.value <= found.high <= 1
    assert rate(0.5, 100).low == pytest.approx(0.4038, abs=1e-4)  # Wilson, as in any table
    with pytest.raises(ValueError, match="double-softmax is 1.96 sure"):
        Finding("double-softmax", "error", 1.96, (), (0, 1), ())
