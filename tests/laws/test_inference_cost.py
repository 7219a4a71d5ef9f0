"""Test ``vario.laws.inference_cost``."""

from __future__ import annotations

import numpy as np
import pytest

from vario.laws.inference_cost import fit_time


def test_planted_times_through_contention() -> None:
    rng = np.random.default_rng(0)
    prompt, output = (grid.ravel() for grid in np.meshgrid([16.0, 64, 256, 512], [1.0, 16, 64]))
    prompt, output = np.tile(prompt, 8), np.tile(output, 8)
    clean = 0.01 + 1e-4 * prompt + 0.004 * output
    busy = clean + np.where(rng.random(len(clean)) < 0.5, rng.exponential(0.3, len(clean)), 0.0)
    done = fit_time(prompt, output, busy)
    np.testing.assert_allclose(
        done.seconds(100.0, np.array([8.0, 128.0])), [0.01 + 0.01 + 0.032, 0.02 + 0.512], rtol=0.15
    )
    assert abs(np.mean(busy) / np.mean(clean) - 1) > 0.5
    with pytest.raises(ValueError, match="distinct"):
        fit_time(prompt[:2], output[:2], busy[:2])
