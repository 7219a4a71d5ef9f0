"""Test ``vario.rules.batch_too_small``: fires, stays silent, cannot know."""

from __future__ import annotations

import numpy as np
import pytest

from vario.nouns import NotApplicable
from vario.rules.batch_too_small import check


def noisy(scale, signal=1.0, spread=0.3, seed=8):
    """Readings of signal and noise whose ratio is ``scale`` examples, each with Gaussian error."""
    draw = np.random.default_rng(seed)
    n = 200
    at = 200 + np.arange(n)  # the second half of the run
    return {
        "gradient_noise/signal": (at, signal + spread * draw.standard_normal(n)),
        "gradient_noise/noise": (at, scale * (1 + 0.1 * draw.standard_normal(n))),
    }


def test_fires_where_the_noise_scale_is_far_above_the_batch(make):
    found = check(make(400, noisy(5000)))
    scale = found.evidence[0]
    assert scale.low < 5000 < scale.high and scale.limit == 640
    assert found.severity == "advice"


def test_accumulated_batches_count_whole(make):
    assert check(make(400, noisy(1500))) is not None
    assert check(make(400, noisy(1500) | {"loss/backwards": 8.0})) is None


def test_silent_where_the_batch_fits(make):
    assert check(make(400, noisy(200))) is None


def test_cannot_know_without_a_signal(make):
    """A run with no gradient to speak of must not be told to use larger batches."""
    with pytest.raises(NotApplicable, match="cannot be told from zero"):
        check(make(400, noisy(5000, signal=0.0)))


def test_cannot_know_from_7_readings(make):
    few = {name: (at[:7], values[:7]) for name, (at, values) in noisy(5000).items()}
    with pytest.raises(NotApplicable, match="7 readings of gradient_noise/signal; 8"):
        check(make(400, few))
    with pytest.raises(NotApplicable, match="gradient_noise/signal"):
        check(make())
