"""Test ``vario.rules.gradient_conflict``: fires, stays silent, cannot know."""

from __future__ import annotations

import numpy as np
import pytest

from vario.nouns import NotApplicable
from vario.rules.gradient_conflict import check


def noisy(scale, signal=1.0, spread=0.3, seed=8):
    """Readings of signal and noise whose ratio is ``scale`` examples, each with Gaussian error."""
    draw = np.random.default_rng(seed)
    n = 200
    at = 200 + np.arange(n)  # the second half of the run
    return {
        "gradient_noise/signal": (at, signal + spread * draw.standard_normal(n)),
        "gradient_noise/noise": (at, scale * (1 + 0.1 * draw.standard_normal(n))),
    }


FAILING = {"loss/train": 2.303}


def test_fires_where_gradients_cancel_in_a_failing_run(make):
    found = check(make(400, FAILING | noisy(5000, signal=0.0)))
    signal = found.evidence[0]
    assert signal.low < 0 < signal.high < signal.limit


def test_silent_where_the_run_learns_or_a_signal_is_there(make):
    assert check(make(400, noisy(5000, signal=0.0))) is None
    assert check(make(400, FAILING | noisy(5000))) is None


def test_silent_where_there_is_no_gradient_at_all(make):
    assert check(make(400, FAILING | noisy(1e-14, signal=0.0, spread=1e-18))) is None


def test_cannot_know_without_readings(make):
    with pytest.raises(NotApplicable, match="gradient_noise/signal"):
        check(make(400, FAILING))


def test_silent_where_the_signal_may_still_be_large(make):
    assert check(make(400, FAILING | noisy(1.0, signal=0.0, spread=1.0))) is None
