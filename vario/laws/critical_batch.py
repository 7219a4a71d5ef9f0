"""The batch beyond which more examples per step stop paying, and which of its definitions is meant.

critical-batch: steps to a target S(B) = S_min (1 + Bc / B)^k with k = 1 (`critical-batch-bent` frees k).
At B = Bc steps are twice their least and examples twice theirs; there is no best batch, only a price.
critical-batch-sfo: S(B) = K B / (B - b0), from convergence bounds with a constant rate; examples
B S(B) are least at B = 2 b0.
`overhead_batch`: where examples exceed those of a small batch B0 by a share (0.2 in P176).

When to use: steps to the same target at five or more batches, each with its own tuned learning rate.
When not to: one learning rate for all batches; what is measured is then the rate. Name the definition
with every number: its growth with data is 0.47 by one and 0.62 by another on the same runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product

import numpy as np

from vario.laws._newton import Array
from vario.laws._slopes import with_slopes

CARD = {
    "papers": ("P173", "P125", "P176", "P169"),
    "inputs": ("B",),
    "output": "steps",
    "checked": "closed form: planted curves; SGD on a quadratic with known noise; the printed constants and "
    "both exponents of P176 from its steps",
    "changed": "all definitions side by side",
}


@dataclass(frozen=True)
class CriticalBatch:
    """Parameters s (log of the least steps) and log_bc."""

    id: str = "critical-batch"
    inputs: tuple[str, ...] = ("B",)
    units: tuple[str, ...] = ("batch",)
    output: str = "steps"
    link: str = "log"
    names: tuple[str, ...] = ("s", "log_bc")
    constants: tuple[str, ...] = ("log_bc",)

    def evaluate(self, theta: Array, x: Array) -> tuple[Array, Array]:
        s, log_bc = theta.T[:, :, None]
        value = s + np.logaddexp(0.0, log_bc - x[0])
        return value, np.stack([np.ones_like(value), 1.0 / (1.0 + np.exp(x[0] - log_bc))], axis=1)

    def raw(self, theta: Array, centre: Array, level: float) -> Array:
        s, log_bc = theta.T
        return np.stack([s + level, log_bc + centre[0]], axis=1)

    def starts(self) -> Array:
        return np.array([(-c / 2, c) for c in (-4.0, -2.0, 0.0, 2.0, 4.0)])

    def derived(self, theta: Array) -> Mapping[str, Array]:
        s, log_bc = theta.T
        return {
            "least_steps": np.exp(s),
            "critical_batch": np.exp(log_bc),
            "least_examples": np.exp(s + log_bc),
        }


@dataclass(frozen=True)
class CriticalBatchBent:
    """Parameters s, log_bc and k."""

    id: str = "critical-batch-bent"
    inputs: tuple[str, ...] = ("B",)
    units: tuple[str, ...] = ("batch",)
    output: str = "steps"
    link: str = "log"
    names: tuple[str, ...] = ("s", "log_bc", "k")
    constants: tuple[str, ...] = ("log_bc",)

    def evaluate(self, theta: Array, x: Array) -> tuple[Array, Array]:
        return with_slopes(lambda t: t[:, :1] + t[:, 2:] * np.logaddexp(0.0, t[:, 1:2] - x[0]), theta)

    def raw(self, theta: Array, centre: Array, level: float) -> Array:
        s, log_bc, k = theta.T
        return np.stack([s + level, log_bc + centre[0], k], axis=1)

    def starts(self) -> Array:
        return np.array(
            [(-k * c / 2, c, k) for c, k in product((-4.0, -2.0, 0.0, 2.0, 4.0), (0.5, 1.0, 2.0))]
        )

    def derived(self, theta: Array) -> Mapping[str, Array]:
        s, log_bc, _ = theta.T
        return {"least_steps": np.exp(s), "critical_batch": np.exp(log_bc)}


@dataclass(frozen=True)
class LeastExamples:
    """Parameters s (log K) and log_b0; defined for batches above b0."""

    id: str = "critical-batch-sfo"
    inputs: tuple[str, ...] = ("B",)
    units: tuple[str, ...] = ("batch",)
    output: str = "steps"
    link: str = "log"
    names: tuple[str, ...] = ("s", "log_b0")
    constants: tuple[str, ...] = ("log_b0",)

    def evaluate(self, theta: Array, x: Array) -> tuple[Array, Array]:
        s, log_b0 = theta.T[:, :, None]
        share = np.exp(np.minimum(log_b0 - x[0], -1e-9))
        return s - np.log1p(-share), np.stack([np.ones_like(share), share / (1.0 - share)], axis=1)

    def raw(self, theta: Array, centre: Array, level: float) -> Array:
        s, log_b0 = theta.T
        return np.stack([s + level, log_b0 + centre[0]], axis=1)

    def starts(self) -> Array:
        return np.array([(0.0, c) for c in (-12.0, -8.0, -6.0, -5.0, -4.0, -3.0, -2.0, -1.0)])

    def derived(self, theta: Array) -> Mapping[str, Array]:
        s, log_b0 = theta.T
        return {"least_steps": np.exp(s), "critical_batch": 2.0 * np.exp(log_b0)}


def overhead_batch(steps: Mapping[float, float], *, overhead: float = 0.2) -> float:
    """The batch whose examples exceed those of the smallest measured batch by ``overhead``.

    Log-log interpolation between measured batches; nan if no batch reached it, with no extrapolation.
    """
    batch = np.array(sorted(steps))
    examples = np.log(batch * np.array([steps[one] for one in batch]))
    limit = examples[0] + np.log1p(overhead)
    above = np.flatnonzero(examples > limit)
    if not len(above) or above[0] == 0:
        return float("nan")
    right = int(above[0])
    ends = np.log(batch[[right - 1, right]])
    return float(np.exp(np.interp(limit, examples[[right - 1, right]], ends)))


CRITICAL_BATCH, CRITICAL_BATCH_BENT, SFO = CriticalBatch(), CriticalBatchBent(), LeastExamples()
