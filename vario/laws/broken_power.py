"""A power law whose exponent changes once, smoothly: one break between two straight lines in logs.

y = exp(e) + exp(a) x^-c0 (1 + (x/d)^(1/f))^(-c1 f): slope -c0 before the break at d, -(c0 + c1)
after it, over a width f in logs.

When to use: emergent or double-descent-like curves, where the residuals of `power-floor` bend.
When not to: the break lies beyond the runs. Its place is then a guess, and is reported as a bound.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product

import numpy as np

from vario.laws._newton import Array

CARD = {
    "papers": (),
    "inputs": ("x",),
    "output": "loss",
    "checked": "equation: limits before and after the break, planted constants",
    "changed": "one break only",
}


@dataclass(frozen=True)
class BrokenPower:
    """Parameters e, a, c0, c1, log_d, log_f."""

    id: str = "broken-power"
    inputs: tuple[str, ...] = ("x",)
    units: tuple[str, ...] = ("x",)
    output: str = "loss"
    link: str = "log"
    names: tuple[str, ...] = ("e", "a", "c0", "c1", "log_d", "log_f")
    constants: tuple[str, ...] = ("log_d",)

    def evaluate(self, theta: Array, x: Array) -> tuple[Array, Array]:
        """Log L (s, n) and its slopes (s, 6, n)."""
        e, a, c0, c1, log_d, log_f = theta.T[:, :, None]
        width = np.exp(np.clip(log_f, -4.0, 3.0))
        z = np.clip((x[0] - log_d) / width, -600.0, 600.0)
        past = np.logaddexp(0.0, z)  # how far past the break, smoothly, in widths
        term = a - c0 * x[0] - c1 * width * past
        value = np.logaddexp(e, term)
        share = np.exp(term - value)  # of the loss that is not floor
        through = 1.0 / (1.0 + np.exp(-z))
        widens = np.where(np.abs(log_f + 0.5) < 3.5, c1 * width * (z * through - past), 0.0)
        one = np.ones_like(value)
        of_term = np.stack([one, -x[0] * one, -width * past, c1 * through, widens], axis=1)
        return value, np.concatenate([np.exp(e - value)[:, None], share[:, None] * of_term], axis=1)

    def raw(self, theta: Array, centre: Array, level: float) -> Array:
        e, a, c0, c1, log_d, log_f = theta.T
        return np.stack([e + level, a + level + c0 * centre[0], c0, c1, log_d + centre[0], log_f], axis=1)

    def starts(self) -> Array:
        grid = product((-1.0, -4.0), (0.0, 0.3), (0.3, -0.2, 1.0), (-1.5, 0.0, 1.5), (-2.0, 0.0))
        return np.array([(e, -0.3, c0, c1, d, f) for e, c0, c1, d, f in grid])

    def derived(self, theta: Array) -> Mapping[str, Array]:
        return {
            "E": np.exp(theta[:, 0]),
            "break_at": np.exp(theta[:, 4]),
            "exponent_after": theta[:, 2] + theta[:, 3],
        }


BROKEN_POWER = BrokenPower()
