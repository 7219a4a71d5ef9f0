"""Test ``vario.rules.catastrophic_overfitting``: fires, stays silent, cannot know."""

from __future__ import annotations

import numpy as np
import pytest

from vario.nouns import NotApplicable
from vario.rules import catastrophic_overfitting

N = np.arange(400)
PASSES = np.arange(39, 400, 40)


LOST = {"adversarial/abnormal_share": np.where(N < 200, 0.001, 0.2)}


def test_fires_from_the_step_of_the_change(make):
    found = catastrophic_overfitting.check(make(400, LOST))
    assert (found.severity, found.steps) == ("error", (200, 399))
    robust = {"adversarial/multi_step_accuracy": (PASSES, np.where(PASSES < 200, 0.5, 0.01))}
    assert catastrophic_overfitting.check(make(400, LOST | robust)).confidence > found.confidence


def test_silent_on_few_abnormal_examples_or_where_robustness_holds(make):
    assert catastrophic_overfitting.check(make(400, {"adversarial/abnormal_share": 0.01})) is None
    robust = {"adversarial/multi_step_accuracy": (PASSES, np.full(10, 0.5))}
    assert catastrophic_overfitting.check(make(400, LOST | robust)) is None


def test_cannot_know_of_ordinary_training(make):
    with pytest.raises(NotApplicable, match="0 readings"):
        catastrophic_overfitting.check(make(400))
    with pytest.raises(NotApplicable, match="0 finite"):
        catastrophic_overfitting.check(make(400, {"adversarial/abnormal_share": np.nan}))
