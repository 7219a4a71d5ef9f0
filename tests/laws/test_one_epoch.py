"""Test ``vario.laws.one_epoch``."""

from __future__ import annotations

import numpy as np

from vario.laws.one_epoch import epochs_given_up, follows_a_power_law, size_for


def test_sizes_and_curves() -> None:
    assert size_for(5e9) == 1e9 and epochs_given_up(1e9, 1e8) == 10
    step = np.geomspace(100, 1e5, 40)
    one_pass = 1.5 + 20 * step**-0.4
    repeats = one_pass + np.where(step > 2e4, (step - 2e4) / 2e4, 0.0)
    assert follows_a_power_law(step, one_pass) > 0.999 > 0.95 > follows_a_power_law(step, repeats)
