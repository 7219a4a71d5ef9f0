"""The best learning rate and batch as powers of model size and data, and what being wrong costs.

log lr* = a + p log N + q log D (and the same for the batch). Two ways to the optima of the cells
(N, D): all runs within a share of the cell's best (as published), or the lowest point of a quadratic
in log lr and log batch. Both are noisy where the valley is flat; so a law is judged by its regret,
the share of loss lost at the rate it names, and not by its exponents.

When to use: a grid of rates and batches at several (N, D).
When not to: one rate per size; the exponent is then an assumption (`optimum` says which cells lack
a minimum).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vario.laws._newton import Array

CARD = {
    "papers": ("P116", "P286", "P222"),
    "inputs": ("N", "D"),
    "output": "lr",
    "checked": "result: released dense runs (N exponent, batch exponent, regret of the "
    "published law); planted exponents",
    "changed": "the published D exponent of the rate, .307, is not reproduced by the released "
    "runs (.20 +- .03)",
}


@dataclass(frozen=True)
class StepLaw:
    """Parameters a, p (power of N), q (power of D)."""

    id: str = "step-law"
    inputs: tuple[str, ...] = ("N", "D")
    units: tuple[str, ...] = ("parameters", "tokens")
    output: str = "lr"
    link: str = "log"
    names: tuple[str, ...] = ("a", "p", "q")
    constants: tuple[str, ...] = ()

    def evaluate(self, theta: Array, x: Array) -> tuple[Array, Array]:
        a, p, q = theta.T[:, :, None]
        value = a + p * x[0] + q * x[1]
        one = np.ones_like(value)
        return value, np.stack([one, one * x[0], one * x[1]], axis=1)

    def raw(self, theta: Array, centre: Array, level: float) -> Array:
        a, p, q = theta.T
        return np.stack([a + level - p * centre[0] - q * centre[1], p, q], axis=1)

    def starts(self) -> Array:
        return np.zeros((1, 3))

    def derived(self, theta: Array) -> Mapping[str, Array]:
        return {"coefficient": np.exp(theta[:, 0])}


def published_lr(n: Array | float, d: Array | float) -> Array:
    """1.79 N^-0.713 D^0.307, for AdamW with a cosine to a fixed small rate."""
    return np.asarray(1.79 * np.asarray(n, float) ** -0.713 * np.asarray(d, float) ** 0.307)


def published_batch(d: Array | float) -> Array:
    """0.58 D^0.571 tokens."""
    return np.asarray(0.58 * np.asarray(d, float) ** 0.571)


@dataclass(frozen=True)
class Optimum:
    """The lowest point of a quadratic in log lr and log batch; ``inside`` is False where it has none."""

    lr: float
    batch: float
    loss: float
    inside: bool
    curvature: Array  # (2, 2) in log lr, log batch; all zero where the surface has no lowest point

    def regret(self, lr: float, batch: float) -> float:
        """By what share the surface stands above its lowest point at (lr, batch)."""
        off = np.log([lr / self.lr, batch / self.batch])
        return float(0.5 * off @ self.curvature @ off / self.loss)


def near_best(loss: Array, cell: NDArray[Any], *, share: float = 0.0025) -> Array:
    """Mask of the runs within ``share`` of the best loss of their cell."""
    best = np.array([loss[cell == one].min() for one in cell])
    return np.asarray(loss / best - 1.0 < share)


def optimum(lr: Array, batch: Array, loss: Array, *, share: float = 0.02) -> Optimum:
    """Quadratic optimum of one cell from its runs within ``share`` of the best (at least eight of them)."""
    order = np.argsort(loss)
    rows = order[: max(8, int((loss / loss.min() - 1.0 < share).sum()))]
    u, v = np.log(lr[rows]), np.log(batch[rows])
    mid_u, mid_v = u.mean(), v.mean()
    u, v = u - mid_u, v - mid_v
    table = np.stack([np.ones_like(u), u, v, u * u, u * v, v * v], axis=1)
    one, du, dv, uu, uv, vv = np.linalg.lstsq(table, loss[rows], rcond=None)[0]
    curvature = np.array([[2 * uu, uv], [uv, 2 * vv]])
    if np.linalg.eigvalsh(curvature)[0] <= 0:
        best = order[0]
        return Optimum(float(lr[best]), float(batch[best]), float(loss[best]), False, np.zeros((2, 2)))
    at = -np.linalg.solve(curvature, np.array([du, dv]))
    inside = bool(u.min() <= at[0] <= u.max() and v.min() <= at[1] <= v.max())
    at = np.clip(at, [u.min(), v.min()], [u.max(), v.max()])
    value = one + du * at[0] + dv * at[1] + 0.5 * at @ curvature @ at
    return Optimum(
        float(np.exp(at[0] + mid_u)), float(np.exp(at[1] + mid_v)), float(value), inside, curvature
    )


def regret(lr: Array, batch: Array, loss: Array, at_lr: float, at_batch: float) -> float:
    """By what share the run nearest to (at_lr, at_batch) in logs stands above the best run of its cell."""
    nearest = int(np.argmin(np.log(lr / at_lr) ** 2 + np.log(batch / at_batch) ** 2))
    return float(loss[nearest] / loss.min() - 1.0)


STEP_LAW = StepLaw()
