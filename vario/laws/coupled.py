"""Loss where size and data meet inside one power: the joint form and Kaplan's.

coupled: L = exp(e) + exp(a) (N^-alpha + exp(r) D^-beta)^k; k = 1 is `two-term`.
kaplan: L = ((Nc/N)^(aN/aD) + Dc/D)^aD, with log_nc, log_dc, no floor.

When to use: residuals of `two-term` that depend on N and D together; comparing with fits of 2020.
When not to: fewer than a dozen runs. k trades against alpha and beta, and the fit says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product

import numpy as np

from vario.laws._newton import Array
from vario.laws._slopes import with_slopes

CARD = {
    "papers": ("P125", "P222"),
    "inputs": ("N", "D"),
    "output": "loss",
    "checked": "closed form: k = 1 equals two-term; planted constants",
    "changed": "",
}


@dataclass(frozen=True)
class Coupled:
    """Parameters e, a, alpha, r, beta, k."""

    id: str = "coupled"
    inputs: tuple[str, ...] = ("N", "D")
    units: tuple[str, ...] = ("parameters", "tokens")
    output: str = "loss"
    link: str = "log"
    names: tuple[str, ...] = ("e", "a", "alpha", "r", "beta", "k")
    constants: tuple[str, ...] = ()

    def evaluate(self, theta: Array, x: Array) -> tuple[Array, Array]:
        def value(t: Array) -> Array:
            e, a, alpha, r, beta, k = t.T[:, :, None]
            return np.asarray(np.logaddexp(e, a + k * np.logaddexp(-alpha * x[0], r - beta * x[1])))

        return with_slopes(value, theta)

    def raw(self, theta: Array, centre: Array, level: float) -> Array:
        e, a, alpha, r, beta, k = theta.T
        moved = r + beta * centre[1] - alpha * centre[0]
        return np.stack([e + level, a + level + k * alpha * centre[0], alpha, moved, beta, k], axis=1)

    def starts(self) -> Array:
        grid = product((0.3, 0.7), (0.2, 0.4, 0.8), (-1.0, 1.0), (0.2, 0.4, 0.8), (0.5, 1.0, 2.0))
        return np.array([(np.log(s), np.log1p(-s), al, r, be, k) for s, al, r, be, k in grid])

    def derived(self, theta: Array) -> Mapping[str, Array]:
        e, _, alpha, _, beta, k = theta.T
        return {
            "E": np.exp(e),
            "n_exponent": beta / (alpha + beta),
            "alpha_alone": k * alpha,
            "beta_alone": k * beta,
        }


@dataclass(frozen=True)
class Kaplan:
    """Parameters log_nc, log_dc, alpha_n, alpha_d."""

    id: str = "kaplan"
    inputs: tuple[str, ...] = ("N", "D")
    units: tuple[str, ...] = ("parameters", "tokens")
    output: str = "loss"
    link: str = "log"
    names: tuple[str, ...] = ("log_nc", "log_dc", "alpha_n", "alpha_d")
    constants: tuple[str, ...] = ()

    def evaluate(self, theta: Array, x: Array) -> tuple[Array, Array]:
        def value(t: Array) -> Array:
            nc, dc, an, ad = t.T[:, :, None]
            return np.asarray(ad * np.logaddexp(an / ad * (nc - x[0]), dc - x[1]))

        return with_slopes(value, theta)

    def raw(self, theta: Array, centre: Array, level: float) -> Array:
        nc, dc, an, ad = theta.T
        return np.stack([nc + level / an + centre[0], dc + level / ad + centre[1], an, ad], axis=1)

    def starts(self) -> Array:
        return np.array(list(product((-2.0, 0.0), (-2.0, 0.0), (0.05, 0.1, 0.2), (0.05, 0.1, 0.2))))

    def derived(self, theta: Array) -> Mapping[str, Array]:
        return {"Nc": np.exp(theta[:, 0]), "Dc": np.exp(theta[:, 1])}


COUPLED, KAPLAN = Coupled(), Kaplan()
