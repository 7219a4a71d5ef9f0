"""Test ``vario.laws.wall_clock``; the times are made up, no machine is timed."""

from __future__ import annotations

import numpy as np
import pytest

from vario.laws.wall_clock import Shape, fit_time, reached


def test_planted_prices_come_back_and_flops_alone_do_not_do() -> None:
    rng = np.random.default_rng(0)
    shapes = [
        Shape(int(w), int(d), int(c), 8, 256)
        for w, d, c in zip(
            rng.integers(32, 512, 20), rng.integers(1, 12, 20), rng.integers(32, 256, 20), strict=True
        )
    ]
    seconds = np.array([0.002 + 3e-10 * s.copies + 2e-12 * s.flops for s in shapes])
    both, alone = fit_time(shapes, seconds), fit_time(shapes, seconds, use_copies=False)
    assert both.per_copy == pytest.approx(3e-10, rel=1e-6) and both.error < 1e-6 < 0.02 < alone.error
    there = reached(100 * seconds[0], shapes[0], both)
    assert there["D"] == pytest.approx(100 * shapes[0].tokens) and there["N"] == shapes[0].parameters
    with pytest.raises(ValueError, match="5 or more"):
        fit_time(shapes[:3], seconds[:3])


def test_counts_by_hand() -> None:
    shape = Shape(width=10, depth=2, context=4, batch=3, vocabulary=7)
    assert shape.parameters == 12 * 2 * 100 + 70 and shape.tokens == 12
    assert shape.flops == 6 * 12 * 2470 + 12 * 2 * 12 * 4 * 10
