"""How hard to filter a pool of data depends on how much compute will be spent on it.

A pool with utility b and half-life tau, seen k times, lowers the error by a power that fades:
y = a n_1^b_1 prod_j (n_j / n_(j-1))^b_j + d, with b_k = b (1/2)^((k - 1) / tau) and n_j samples after pass j.
Samples are counted in millions where the published parameters are used: a common scale a
makes the unit matter between pools. Mixing m pools: b_k is the mean of the pools' b_k, each
half-life m times longer (a pool comes back later).

When to use: buckets of one corpus ranked by quality, each trained on alone at a few budgets.
When not to: buckets that need one another (languages, skills): mixing is taken to be additive.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from vario.laws._newton import Array, minimise
from vario.laws._slopes import with_slopes

CARD = {
    "papers": ("P358",),
    "inputs": ("samples",),
    "output": "error",
    "checked": "closed form: planted utilities; result: order of buckets and their best number "
    "from the published parameters",
    "changed": "continuous passes: the last, unfinished pass counts with its own exponent",
}


@dataclass(frozen=True)
class Pool:
    """One bucket: utility b (negative: error falls), half-life tau in passes, and its number of samples."""

    b: float
    tau: float
    size: float


def error(pools: Sequence[Pool], samples: Array | float, *, scale: float = 1.0, floor: float = 0.0) -> Array:
    """Error after ``samples`` samples drawn evenly from the pools."""
    seen = np.atleast_1d(np.asarray(samples, float))
    sizes = sum(pool.size for pool in pools)
    passes = int(np.ceil(float((seen / sizes).max()))) + 1
    ends = np.minimum(seen[:, None], sizes * np.arange(1, passes + 1))  # samples after each pass
    steps = np.log(ends) - np.log(np.concatenate([np.ones((len(seen), 1)), ends[:, :-1]], axis=1))
    power = np.mean([pool.b * 0.5 ** (np.arange(passes) / (pool.tau * len(pools))) for pool in pools], axis=0)
    return np.asarray(scale * np.exp(steps @ power) + floor)


def best_count(ranked: Sequence[Pool], samples: float) -> int:
    """How many of the best pools to keep for this many samples (1 = filter hardest)."""
    return 1 + int(
        np.argmin([float(error(ranked[:count], samples)[0]) for count in range(1, len(ranked) + 1)])
    )


def fit_pool(
    samples: Array, errors: Array, size: float, *, floor: float | None = None
) -> tuple[Pool, float, float]:
    """Utility and half-life of one pool of ``size`` samples, with the scale and the floor, from its curve.

    Least squares in log error, many starts. ``floor`` None fits it; give 0 where errors are far above it.
    """
    samples, errors = np.asarray(samples, float), np.asarray(errors, float)
    if len(samples) < 5:
        raise ValueError(
            f"{len(samples)} points; a pool's curve needs 5 or more, some of them beyond one pass"
        )
    fitted = 4 if floor is None else 3

    def value(theta: Array) -> Array:
        rows = []
        for row in np.atleast_2d(theta):
            pool = Pool(-float(np.exp(row[1])), float(np.exp(np.clip(row[2], -3.0, 7.0))), size)
            base = errors.min() / (1.0 + np.exp(-row[3])) if floor is None else floor
            rows.append(np.log(error([pool], samples, scale=float(np.exp(row[0])), floor=base)))
        return np.array(rows)

    grid = product(
        (0.0, 1.0),
        np.log([0.05, 0.15, 0.4]),
        np.log([1.0, 4.0, 12.0]),
        (-3.0, 0.0) if fitted == 4 else (0.0,),
    )
    starts = np.array(list(grid))[:, :fitted]
    ends, totals = minimise(lambda theta: with_slopes(value, theta), starts, np.log(errors))
    best = ends[int(np.argmin(totals))]
    base = errors.min() / (1.0 + np.exp(-best[3])) if floor is None else floor
    return Pool(-float(np.exp(best[1])), float(np.exp(best[2])), size), float(np.exp(best[0])), float(base)
