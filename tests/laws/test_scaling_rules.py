"""Test ``vario.laws.scaling_rules``."""

from __future__ import annotations

import pytest

from vario.laws.scaling_rules import Setting, at_batch, holds_until


def test_rules_by_hand() -> None:
    assert at_batch(Setting(0.1, momentum=0.9, ema=0.999), 8) == Setting(0.8, 0.9, None, None, 0.999**8)
    adam = at_batch(Setting(1e-3, betas=(0.9, 0.999), eps=1e-8), 4)
    assert adam.lr == 2e-3 and adam.eps == 5e-9
    assert adam.betas == pytest.approx((0.6, 0.996))
    assert at_batch(at_batch(Setting(1e-3), 4), 0.25) == Setting(1e-3)
    assert holds_until(64, 512) == 8 and holds_until(64, 8) == 1


def test_a_factor_that_the_rule_cannot_bear() -> None:
    with pytest.raises(ValueError, match="ends at a factor of 10"):
        at_batch(Setting(1e-3, betas=(0.9, 0.999)), 20)
    with pytest.raises(ValueError, match="positive"):
        at_batch(Setting(1e-3), 0)
