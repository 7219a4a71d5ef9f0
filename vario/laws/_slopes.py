"""Slopes by central differences, for families whose own derivatives would be longer than they are."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from vario.laws._newton import Array

STEP = 6e-6  # the cube root of the rounding error: truncation and rounding are then equal


def with_slopes(value: Callable[[Array], Array], theta: Array) -> tuple[Array, Array]:
    """``value(theta)`` (s, n) for theta (s, p), and its slopes (s, p, n)."""
    here = value(theta)
    slopes = np.empty((*theta.shape, here.shape[1]))
    for place in range(theta.shape[1]):
        step = np.zeros(theta.shape[1])
        step[place] = STEP
        slopes[:, place] = (value(theta + step) - value(theta - step)) / (2 * STEP)
    return here, slopes
