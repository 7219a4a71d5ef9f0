"""Test ``vario.rules.gradient_clipping_dominates``: fires, stays silent, cannot know."""

from __future__ import annotations

import numpy as np
import pytest

from vario.nouns import NotApplicable
from vario.rules.gradient_clipping_dominates import check

SLOW = {"loss/train": lambda s, v: (s, 2.3 - 0.3 * s / s[-1])}


def test_fires_where_every_step_is_cut_to_a_tenth(make):
    found = check(make(400, SLOW | {"clipping/factor": 0.1}))
    assert found.severity == "warning"
    assert next(e for e in found.evidence if e.name == "clipping factor").value == pytest.approx(0.1)


def test_is_advice_with_adam_or_where_the_run_learns(make):
    assert check(make(400, SLOW | {"clipping/factor": 0.1}, optimizer="AdamW")).severity == "advice"
    assert check(make(400, {"clipping/factor": 0.1})).severity == "advice"


def test_silent_where_clipping_is_mild_or_rare_or_only_at_first(make):
    for factor in (0.5, lambda s: np.where(s % 5, 0.1, 1.0), lambda s: np.where(s < 40, 0.01, 1.0)):
        values = factor(np.arange(400)) if callable(factor) else factor
        assert check(make(400, {"clipping/factor": values})) is None


def test_cannot_know_without_clipping(make):
    with pytest.raises(NotApplicable, match="clipping/factor"):
        check(make())
