"""Test ``vario.rules.not_identified``: fires, stays silent, cannot know."""

from __future__ import annotations

import numpy as np
import pytest

from vario.nouns import NotApplicable
from vario.rules.not_identified import check


def noisy(scale, signal=1.0, spread=0.3, seed=8):
    """Readings of signal and noise whose ratio is ``scale`` examples, each with Gaussian error."""
    draw = np.random.default_rng(seed)
    n = 200
    at = 200 + np.arange(n)  # the second half of the run
    return {
        "gradient_noise/signal": (at, signal + spread * draw.standard_normal(n)),
        "gradient_noise/noise": (at, scale * (1 + 0.1 * draw.standard_normal(n))),
    }


def evaluation(accuracy, count):
    return {
        ("eval/accuracy", "loader 1"): ([399], [accuracy]),
        ("eval/examples", "loader 1"): ([399], [count]),
    }


def test_fires_on_an_evaluation_of_twenty_examples(make):
    found = check(make(400, evaluation(0.5, 20)))
    wide = found.evidence[1]
    # Wilson's interval for 10 of 20
    assert (wide.low, wide.high) == pytest.approx((0.299, 0.701), abs=1e-3)
    assert (found.severity, found.where) == ("advice", ("loader 1",))


def test_fires_on_a_noise_scale_without_a_signal(make):
    found = check(make(400, noisy(5000, signal=0.0)))
    assert [e.name for e in found.evidence[1:]] == ["noise scale"]
    assert found.evidence[1].high == np.inf


def test_silent_where_both_are_settled(make):
    assert check(make(400, noisy(200) | evaluation(0.9, 1000))) is None


def test_cannot_know_where_nothing_was_asked(make):
    with pytest.raises(NotApplicable, match="no evaluation accuracy"):
        check(make())
