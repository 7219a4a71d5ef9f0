"""Loss falls with a power of model size and a power of data, down to a floor.

L(N, D) = exp(e) + exp(a) N^-alpha + exp(b) D^-beta. The scales are logs so that every
parameter is free, of order one, and printable; A, B and E stand among the derived numbers.
``two-term-tied`` holds alpha = beta, which five or six runs can still identify.

When to use: runs that vary N and D apart from one another, each by a factor of three or more.
When not to: the runs lie on one line in (log N, log D); data are repeated (see `repetition`).
Refused: fewer than 8 rows, N or D spanning less than a factor of 3 or fewer than 3 levels,
log N and log D correlated above 0.97.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product

import numpy as np

from vario.laws._newton import Array

CARD = {
    "papers": ("P332", "P222"),
    "inputs": ("N", "D"),
    "output": "loss",
    "checked": "result: the replication's objective to ten digits; closed form of the best allocation",
    "changed": "Newton from 125 starts in centred logs in place of L-BFGS in raw ones",
}

SHARES = ((0.8, 0.1, 0.1), (0.5, 0.25, 0.25), (0.34, 0.33, 0.33), (0.6, 0.3, 0.1), (0.6, 0.1, 0.3))
POWERS = (0.1, 0.25, 0.4, 0.7, 1.2)


@dataclass(frozen=True)
class TwoTerm:
    """Parameters e, a, alpha, b, beta; inputs N (parameters) and D (tokens)."""

    id: str = "two-term"
    inputs: tuple[str, ...] = ("N", "D")
    units: tuple[str, ...] = ("parameters", "tokens")
    output: str = "loss"
    link: str = "log"
    names: tuple[str, ...] = ("e", "a", "alpha", "b", "beta")
    constants: tuple[str, ...] = ()

    def evaluate(self, theta: Array, x: Array) -> tuple[Array, Array]:
        """Log L (s, n) and its slopes (s, 5, n) at log inputs x (2, n)."""
        e, a, alpha, b, beta = theta.T[:, :, None]
        part = np.empty((len(theta), 2, x.shape[1]))  # the two terms over the floor
        np.subtract(a - e, alpha * x[0], out=part[:, 0])
        np.subtract(b - e, beta * x[1], out=part[:, 1])
        np.exp(np.minimum(part, 600.0, out=part), out=part)
        total = 1.0 + part[:, 0] + part[:, 1]
        floor = 1.0 / total
        part *= floor[:, None]
        slopes = np.empty((len(theta), 5, x.shape[1]))
        slopes[:, 0], slopes[:, 1], slopes[:, 3] = floor, part[:, 0], part[:, 1]
        np.multiply(part[:, 0], -x[0], out=slopes[:, 2])
        np.multiply(part[:, 1], -x[1], out=slopes[:, 4])
        return e + np.log(total), slopes

    def raw(self, theta: Array, centre: Array, level: float) -> Array:
        """The same law in the user's units, from one fitted to log x - centre and log y - level."""
        e, a, alpha, b, beta = theta.T
        return np.stack(
            [e + level, a + level + alpha * centre[0], alpha, b + level + beta * centre[1], beta], axis=1
        )

    def starts(self) -> Array:
        """125 starts: five ways to share the loss among its terms, five powers for each."""
        logs = np.log(SHARES)
        return np.array([(e, a, al, b, be) for (e, a, b), al, be in product(logs, POWERS, POWERS)])

    def derived(self, theta: Array) -> Mapping[str, Array]:
        """Scales, and the exponents of the best N and D under a budget C = 6 N D."""
        e, a, alpha, b, beta = theta.T
        return {
            "E": np.exp(e),
            "A": np.exp(a),
            "B": np.exp(b),
            "n_exponent": beta / (alpha + beta),
            "d_exponent": alpha / (alpha + beta),
            "loss_exponent": alpha * beta / (alpha + beta),
        }

    def best_size(self, theta: Array, compute: float, *, cost: float = 6.0) -> Array:
        """N* (s,) that minimises the loss when cost * N * D = compute."""
        _, a, alpha, b, beta = theta.T
        log_g = (np.log(alpha) + a - np.log(beta) - b) / (alpha + beta)
        return np.asarray(np.exp(log_g + beta / (alpha + beta) * np.log(compute / cost)))


@dataclass(frozen=True)
class TwoTermTied(TwoTerm):
    """The two-term law with one exponent: parameters e, a, b, alpha."""

    id: str = "two-term-tied"
    names: tuple[str, ...] = ("e", "a", "b", "alpha")

    def evaluate(self, theta: Array, x: Array) -> tuple[Array, Array]:
        value, slopes = super().evaluate(self._whole(theta), x)
        return value, np.stack(
            [slopes[:, 0], slopes[:, 1], slopes[:, 3], slopes[:, 2] + slopes[:, 4]], axis=1
        )

    def raw(self, theta: Array, centre: Array, level: float) -> Array:
        return super().raw(self._whole(theta), centre, level)[:, [0, 1, 3, 2]]

    def starts(self) -> Array:
        return np.array([(*np.log(share), power) for share, power in product(SHARES, POWERS)])

    def derived(self, theta: Array) -> Mapping[str, Array]:
        return super().derived(self._whole(theta))

    def best_size(self, theta: Array, compute: float, *, cost: float = 6.0) -> Array:
        return super().best_size(self._whole(theta), compute, cost=cost)

    def _whole(self, theta: Array) -> Array:
        return np.asarray(theta[:, [0, 1, 3, 2, 3]])


TWO_TERM = TwoTerm()
TWO_TERM_TIED = TwoTermTied()
