"""Two model families compared at equal time on equal hardware, and where their curves cross.

A compute class is accelerator-hours. Each family's best measured throughput turns hours into tokens,
so a fast simple model may win small classes and lose large ones. Both loss curves are fitted as
L = E + a t^-b in hours, and the crossing gets an interval from refitted draws of both.

Measured on characters, 20 s of processor time each, three seeds: a transformer of 117,632 parameters
reached 1.83 to 1.85 nats, a GRU of 80,576 parameters 1.77 to 1.78; at 150 steps alike the order is the
same, 2.13 to 2.15 against 2.10 to 2.11. Throughput per second of processor time, six repeats on a machine
shared with seven others: within 2.2 % for the transformer and 3.3 % for the GRU where windows of four steps
are dealt to the repeats in turn (24 each); one repeat after another, each in another minute, both differed
by 15 %. Measure models in turn, not one by one.

When to use: the ranking at equal steps and at equal time differ, or may differ at scale.
When not to: throughputs measured on different machines, or below the batch where they saturate.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vario.laws._newton import Array
from vario.laws._uncertainty import bootstrap
from vario.laws.fit import Fit, fit, predict
from vario.laws.power import POWER_FLOOR

CARD = {
    "papers": ("P285",),
    "inputs": ("hours",),
    "output": "loss",
    "checked": "closed form: crossings of planted curves, covered by their intervals; result: throughputs "
    "that repeat, and both rankings of a transformer and a GRU",
    "changed": "",
}


@dataclass(frozen=True)
class Crossing:
    """Hours at which the two curves meet, its 95 % interval, and the share of draws in which they do."""

    value: float
    low: float
    high: float
    share: float


def hours_for(tokens: Array | float, tokens_per_second: float) -> Array:
    """Hours that these tokens take at a measured throughput."""
    return np.asarray(np.asarray(tokens, float) / tokens_per_second / 3600.0)


def crossing(
    first: tuple[Array, Array],
    second: tuple[Array, Array],
    *,
    draws: int = 400,
    seed: int = 0,
    decades: float = 6.0,
) -> Crossing:
    """Where the loss of two families meets, from (hours, loss) of each; nan where it never does.

    Looked for from the first measured hour to ``decades`` beyond the last.
    """
    fits = [fit(POWER_FLOOR, {"x": hours}, loss, delta="auto") for hours, loss in (first, second)]
    start = max(float(first[0].min()), float(second[0].min()))
    stop = max(float(first[0].max()), float(second[0].max())) * 10.0**decades
    grid = np.geomspace(start, stop, 4000)
    one, two = (predict(POWER_FLOOR, done.theta[None], {"x": grid}) for done in fits)
    own = _meets(one, two, grid)
    one, two = (_draws(done, draws, seed + i, grid) for i, done in enumerate(fits))
    drawn = _meets(one, two, grid)
    share = float(np.isfinite(drawn).mean())
    if not np.isfinite(own[0]):
        return Crossing(float("nan"), float("nan"), float("nan"), share)
    low, high = np.quantile(np.where(np.isfinite(drawn), drawn, np.inf), (0.025, 0.975), method="nearest")
    return Crossing(float(own[0]), float(low), float(high), share)


def _draws(done: Fit, draws: int, seed: int, grid: Array) -> Array:
    return predict(POWER_FLOOR, bootstrap(done, draws=draws, seed=seed)[0], {"x": grid})


def _meets(first: Array, second: Array, grid: Array) -> Array:
    """The last change of sign of first - second along the grid, per row."""
    sign = np.sign(first - second)
    change = sign[:, 1:] != sign[:, :-1]
    last = change.shape[1] - 1 - np.argmax(change[:, ::-1], axis=1)
    return np.where(change.any(axis=1), np.sqrt(grid[last] * grid[last + 1]), np.nan)
