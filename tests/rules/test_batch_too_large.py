"""Test ``vario.rules.batch_too_large``: fires, stays silent, cannot know."""

from __future__ import annotations

import numpy as np
import pytest

from vario.nouns import NotApplicable
from vario.rules.batch_too_large import check


def noisy(scale, signal=1.0, spread=0.3, seed=8):
    """Readings of signal and noise whose ratio is ``scale`` examples, each with Gaussian error."""
    draw = np.random.default_rng(seed)
    n = 200
    at = 200 + np.arange(n)  # the second half of the run
    return {
        "gradient_noise/signal": (at, signal + spread * draw.standard_normal(n)),
        "gradient_noise/noise": (at, scale * (1 + 0.1 * draw.standard_normal(n))),
    }


def test_fires_where_the_noise_scale_is_far_below_the_batch(make):
    found = check(make(400, noisy(2.0)))
    assert found.severity == "advice"
    assert found.evidence[0].low < 2.0 < found.evidence[0].high < found.evidence[0].limit == 16


def test_silent_where_the_batch_fits(make):
    assert check(make(400, noisy(200))) is None
    assert check(make(400, noisy(20))) is None


def test_cannot_know_without_a_signal_or_readings(make):
    with pytest.raises(NotApplicable, match="cannot be told from zero"):
        check(make(400, noisy(2.0, signal=0.0)))
    with pytest.raises(NotApplicable, match="gradient_noise/signal"):
        check(make(400, {"gradient/cosine": None}))


def test_gradients_that_stay_alike_have_little_noise(make):
    """Of 64 examples with a noise scale of 4: a cosine of 1 / (1 + 4 / 64); with one of 64: a half."""
    found = check(make(400, {"gradient/cosine": (np.arange(250, 400, 50), np.full(3, 1 / (1 + 4 / 64)))}))
    assert (found.severity, found.evidence[0].value) == ("advice", pytest.approx(4.0))
    assert check(make(400, {"gradient/cosine": (np.arange(250, 400, 50), np.full(3, 0.5))})) is None
    assert check(make(400, {"gradient/cosine": 0.99, "loss/train": 2.3})) is None  # it does not learn
    with pytest.raises(NotApplicable, match="gradient_noise/signal"):
        check(make(400, {"gradient/cosine": (np.array([50, 250, 300]), np.full(3, 0.99))}))


def test_in_a_run_of_few_steps_the_last_three_cosines_count_after_its_first_quarter(make):
    """A probe whenever the run has doubled leaves two of them to the second half."""
    assert check(make(60, {"gradient/cosine": (np.array([2, 6, 16, 35, 36]), np.full(5, 0.99))})) is not None
    with pytest.raises(NotApplicable, match="gradient_noise/signal"):
        check(make(60, {"gradient/cosine": (np.array([2, 6, 14, 35, 36]), np.full(5, 0.99))}))


def test_one_example_is_never_too_many(make):
    alike = {"gradient/cosine": (np.arange(250, 400, 50), np.full(3, 0.999)), "batch/size": 1.0}
    with pytest.raises(NotApplicable):
        check(make(400, alike))
    with pytest.raises(NotApplicable, match="one example"):
        check(make(400, noisy(0.1) | {"batch/size": 1.0}))
