"""One quantity falls with a power of another: plain, down to a floor, or shifted.

power: y = exp(a) x^-c. power-floor: y = exp(e) + exp(a) x^-c. power-shifted: y = exp(a) (x + d)^-c
with d > 0, for curves that start flat because the first d units were spent on something else.

When to use: loss against compute, examples, steps or parameters, one of them varied.
When not to: two sizes vary (`two-term`); the curve bends twice in logs (`broken-power`). The
plain power law is almost always too optimistic far out: the fit warns where the logs curve.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product

import numpy as np

from vario.laws._newton import Array
from vario.laws._slopes import with_slopes

CARD = {
    "papers": ("P125", "P078", "P117"),
    "inputs": ("x",),
    "output": "loss",
    "checked": "closed form: planted constants; data: learning curves of translation models, "
    "held-out largest set",
    "changed": "",
}


@dataclass(frozen=True)
class Power:
    """Parameters a, c."""

    id: str = "power"
    inputs: tuple[str, ...] = ("x",)
    units: tuple[str, ...] = ("x",)
    output: str = "loss"
    link: str = "log"
    names: tuple[str, ...] = ("a", "c")
    constants: tuple[str, ...] = ()

    def evaluate(self, theta: Array, x: Array) -> tuple[Array, Array]:
        a, c = theta.T[:, :, None]
        value = a - c * x[0]
        return value, np.stack([np.ones_like(value), np.broadcast_to(-x[0], value.shape)], axis=1)

    def raw(self, theta: Array, centre: Array, level: float) -> Array:
        a, c = theta.T
        return np.stack([a + level + c * centre[0], c], axis=1)

    def starts(self) -> Array:
        return np.array([(0.0, c) for c in (-0.5, 0.1, 0.5, 1.0)])

    def derived(self, theta: Array) -> Mapping[str, Array]:
        return {"A": np.exp(theta[:, 0])}


@dataclass(frozen=True)
class PowerFloor:
    """Parameters e, a, c."""

    id: str = "power-floor"
    inputs: tuple[str, ...] = ("x",)
    units: tuple[str, ...] = ("x",)
    output: str = "loss"
    link: str = "log"
    names: tuple[str, ...] = ("e", "a", "c")
    constants: tuple[str, ...] = ()

    def evaluate(self, theta: Array, x: Array) -> tuple[Array, Array]:
        e, a, c = theta.T[:, :, None]
        value = np.logaddexp(e, a - c * x[0])
        share = np.exp(np.clip(a - c * x[0] - value, -600.0, 0.0))
        return value, np.stack([1.0 - share, share, -x[0] * share], axis=1)

    def raw(self, theta: Array, centre: Array, level: float) -> Array:
        e, a, c = theta.T
        return np.stack([e + level, a + level + c * centre[0], c], axis=1)

    def starts(self) -> Array:
        shares = (0.9, 0.7, 0.5, 0.2)
        return np.array([(np.log(s), np.log1p(-s), c) for s, c in product(shares, (0.1, 0.3, 0.6, 1.0, 2.0))])

    def derived(self, theta: Array) -> Mapping[str, Array]:
        return {"E": np.exp(theta[:, 0]), "A": np.exp(theta[:, 1])}


@dataclass(frozen=True)
class PowerShifted:
    """Parameters a, c, log_d."""

    id: str = "power-shifted"
    inputs: tuple[str, ...] = ("x",)
    units: tuple[str, ...] = ("x",)
    output: str = "loss"
    link: str = "log"
    names: tuple[str, ...] = ("a", "c", "log_d")
    constants: tuple[str, ...] = ("log_d",)

    def evaluate(self, theta: Array, x: Array) -> tuple[Array, Array]:
        return with_slopes(lambda t: t[:, :1] - t[:, 1:2] * np.logaddexp(x[0], t[:, 2:3]), theta)

    def raw(self, theta: Array, centre: Array, level: float) -> Array:
        a, c, log_d = theta.T
        return np.stack([a + level + c * centre[0], c, log_d + centre[0]], axis=1)

    def starts(self) -> Array:
        return np.array([(0.0, c, d) for c, d in product((0.1, 0.3, 1.0), (-4.0, -1.0, 1.0))])

    def derived(self, theta: Array) -> Mapping[str, Array]:
        return {"A": np.exp(theta[:, 0]), "d": np.exp(theta[:, 2])}


POWER, POWER_FLOOR, POWER_SHIFTED = Power(), PowerFloor(), PowerShifted()
