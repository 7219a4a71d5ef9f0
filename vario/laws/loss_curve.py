"""Loss over a whole training run, for any size, any number of steps and any batch.

L = (Nc / N)^aN + (Sc / S_min)^aS, where S_min = S / (1 + Bcrit / B) is the number of steps that a very
large batch would have needed, and Bcrit = B* / L^(1/aB) grows as the loss falls. L stands on both
sides; it is solved for.

When to use: loss curves of small models at two or more batches, to forecast the curve of a larger one.
When not to: learning rates that decay to zero (the tail falls faster than the law), or the
warm-up still in the rows: `after_warmup` finds and leaves it out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product

import numpy as np

from vario.laws._newton import Array
from vario.laws._slopes import with_slopes
from vario.laws.fit import fit

CARD = {
    "papers": ("P125",),
    "inputs": ("N", "S", "B"),
    "output": "loss",
    "checked": "closed form: planted constants within 5 %, the curve of a model 100 times larger within 1 %",
    "changed": "all constants fitted at once; the paper fits them one after the other",
}


@dataclass(frozen=True)
class LossCurve:
    """Parameters log_nc, alpha_n, log_sc, alpha_s, log_b, inverse_alpha_b; B in the unit of the column."""

    id: str = "loss-curve"
    inputs: tuple[str, ...] = ("N", "S", "B")
    units: tuple[str, ...] = ("parameters", "steps", "batch")
    output: str = "loss"
    link: str = "log"
    names: tuple[str, ...] = ("log_nc", "alpha_n", "log_sc", "alpha_s", "log_b", "inverse_alpha_b")
    constants: tuple[str, ...] = ("log_b",)

    def evaluate(self, theta: Array, x: Array) -> tuple[Array, Array]:
        return with_slopes(lambda t: _log_loss(t, x), theta)

    def raw(self, theta: Array, centre: Array, level: float) -> Array:
        nc, an, sc, a_s, log_b, inverse = theta.T
        return np.stack(
            [nc + centre[0] + level / an, an, sc + centre[1] + level / a_s, a_s,
             log_b + centre[2] + inverse * level, inverse],
            axis=1,
        )  # fmt: skip

    def starts(self) -> Array:
        grid = product((-4.0,), (0.08, 0.2), (-1.0,), (0.4, 0.8), (-2.0, 1.0), (4.0,))
        return np.array(list(grid))

    def derived(self, theta: Array) -> Mapping[str, Array]:
        nc, _, sc, _, log_b, inverse = theta.T
        return {"Nc": np.exp(nc), "Sc": np.exp(sc), "B*": np.exp(log_b), "alpha_B": 1.0 / inverse}

    def critical_batch(self, theta: Array, loss: float) -> Array:
        """Bcrit at this loss: steps and examples are then both twice their least."""
        return np.asarray(np.exp(theta[:, 4] - theta[:, 5] * np.log(loss)))


def after_warmup(run: Array, step: Array, loss: Array, *, limit: float = 6.0) -> Array:
    """Mask of the rows that follow a power law of the step: the head of each run that does not is left out.

    A power law with a floor is fitted to the second half of each run (in log steps); the head ends
    at the last row that lies further from it than ``limit`` robust standard deviations, at least 1 %.
    """
    from vario.laws.power import POWER_FLOOR

    keep = np.zeros(len(step), bool)
    for one in np.unique(run):
        rows = np.flatnonzero(run == one)
        rows = rows[np.argsort(step[rows])]
        late = rows[np.log(step[rows]) >= np.log(step[rows]).mean()]
        done = fit(POWER_FLOOR, {"x": step[late]}, loss[late], delta="auto")
        scatter = max(1.4826 * float(np.median(np.abs(done.residuals))) * limit, 0.01)
        off = np.abs(np.log(done.predict({"x": step[rows]}) / loss[rows])) > scatter
        off[np.isin(rows, late)] = False
        first = int(np.flatnonzero(off)[-1]) + 1 if off.any() else 0
        keep[rows[first:]] = True
    return keep


def _log_loss(theta: Array, x: Array) -> Array:
    """Newton on y = log L, from the loss that an endless batch would have; seven steps reach rounding."""
    nc, an, sc, a_s, log_b, inverse = theta.T[:, :, None]
    by_size = an * (nc - x[0])
    y = np.logaddexp(by_size, a_s * (sc - x[1]))
    for _ in range(7):
        small = np.clip(log_b - inverse * y - x[2], -60.0, 60.0)  # log Bcrit / B
        by_steps = a_s * (sc - x[1] + np.logaddexp(0.0, small))
        value = np.logaddexp(by_size, by_steps)
        share = np.exp(np.clip(by_steps - value, -60.0, 0.0))
        slope = -share * a_s * inverse / (1.0 + np.exp(-small))
        y = y - (y - value) / (1.0 - slope)
    return np.asarray(y)


LOSS_CURVE = LossCurve()
