"""The best learning rate against the batch at one training length: it grows, then saturates.

lr*(B) = lr_max / (1 + Bc / B)^k. Plain SGD has k = 1: below Bc the rate grows with the batch, because steps
are mostly noise, and the largest stable rate is its end (P173's formula). Adam is nearer to k = 1/2.

Two numbers are called critical here, and the second is smaller: ``critical_batch`` is Bc, where the rate has
2^-k of its largest value; ``knee`` is where doubling the batch still raises the rate by 1.75^k times, 7/8 of
what it would gain far below, Bc / 6.

When to use: best rates from sweeps at five or more batches, all of the same number of examples.
When not to: rates that fall again at large batches: see `time-transfer`, which also knows the length.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product

import numpy as np

from vario.laws._newton import Array
from vario.laws._slopes import with_slopes

CARD = {
    "papers": ("P173", "P185", "P229"),
    "inputs": ("B",),
    "output": "lr",
    "checked": "closed form: planted constants; the exact best rates of SGD on structured features",
    "changed": "the power k is free where the formula in print has 1",
}

LEAST_GAIN = 1.75  # of the rate, where the batch doubles: P185's row


@dataclass(frozen=True)
class RateSaturation:
    """Parameters log_lr (the largest rate) and log_bc; k is held at 1."""

    id: str = "rate-saturation"
    inputs: tuple[str, ...] = ("B",)
    units: tuple[str, ...] = ("batch",)
    output: str = "lr"
    link: str = "log"
    names: tuple[str, ...] = ("log_lr", "log_bc")
    constants: tuple[str, ...] = ("log_bc",)

    def evaluate(self, theta: Array, x: Array) -> tuple[Array, Array]:
        return with_slopes(lambda t: _log_rate(np.insert(t, 2, 1.0, axis=1), x), theta)

    def raw(self, theta: Array, centre: Array, level: float) -> Array:
        return np.asarray(theta + np.array([level, centre[0]]))

    def starts(self) -> Array:
        return np.array([(0.0, c) for c in (-4.0, -2.0, 0.0, 2.0, 4.0)])

    def derived(self, theta: Array) -> Mapping[str, Array]:
        bc = np.exp(theta[:, 1])
        return {"largest_lr": np.exp(theta[:, 0]), "critical_batch": bc, "knee": bc * KNEE}


@dataclass(frozen=True)
class RateSaturationBent(RateSaturation):
    """Parameters log_lr, log_bc and k."""

    id: str = "rate-saturation-bent"
    names: tuple[str, ...] = ("log_lr", "log_bc", "k")

    def evaluate(self, theta: Array, x: Array) -> tuple[Array, Array]:
        return with_slopes(lambda t: _log_rate(t, x), theta)

    def raw(self, theta: Array, centre: Array, level: float) -> Array:
        return np.asarray(theta + np.array([level, centre[0], 0.0]))

    def starts(self) -> Array:
        return np.array([(0.0, c, k) for c, k in product((-4.0, -2.0, 0.0, 2.0, 4.0), (0.5, 1.0))])


def _log_rate(theta: Array, x: Array) -> Array:
    log_lr, log_bc, k = theta.T[:, :, None]
    return np.asarray(log_lr - k * np.logaddexp(0.0, log_bc - x[0]))


# With u = Bc / B a doubling gains (1 + u) / (1 + u / 2), which is LEAST_GAIN where B is this share of Bc.
KNEE = (1.0 - LEAST_GAIN / 2.0) / (LEAST_GAIN - 1.0)
RATE_SATURATION, RATE_SATURATION_BENT = RateSaturation(), RateSaturationBent()
