"""Test ``vario.rules.overconfidence``: fires, stays silent, cannot know."""

from __future__ import annotations

import numpy as np
import pytest

from vario.nouns import NotApplicable
from vario.rules import overconfidence

N = np.arange(400)
PASSES = np.arange(39, 400, 40)


def held_out(sure, right, examples=1000.0):
    values = {"confidence": sure, "accuracy": right, "examples": examples}
    return {(f"eval/{name}", "loader 1"): (PASSES, np.full(10, v)) for name, v in values.items()}


def test_fires_with_an_interval_from_the_number_of_examples(make):
    found = overconfidence.check(make(400, held_out(0.95, 0.6)))
    gap = found.evidence[0]
    assert found.severity == "warning"
    assert gap.value == pytest.approx(0.35)
    assert gap.high - gap.low == pytest.approx(2 * 1.96 * np.sqrt(0.24 / 1000), rel=0.02)
    assert overconfidence.check(make(400, held_out(0.95, 0.82))).severity == "advice"


def test_silent_where_the_gap_is_small_or_within_the_noise(make):
    assert overconfidence.check(make(400, held_out(0.95, 0.92))) is None
    assert overconfidence.check(make(400, held_out(0.95, 0.85, examples=100.0))) is None
    assert overconfidence.check(make(400, held_out(0.6, 0.9))) is None


def test_cannot_know_without_confidence_accuracy_or_examples(make):
    with pytest.raises(NotApplicable, match="no evaluation"):
        overconfidence.check(make(400))
    with pytest.raises(NotApplicable, match="no accuracy"):
        overconfidence.check(make(400, held_out(0.95, np.nan)))
    with pytest.raises(NotApplicable, match="50 held-out examples"):
        overconfidence.check(make(400, held_out(0.95, 0.2, examples=50.0)))
