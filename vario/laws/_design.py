"""Which runs to do next: the ones that narrow one forecast most, within a budget.

The bootstrap draws know how every possible run would move together with the forecast. A new run
with noise s takes cov(target, run)^2 / (var(run) + s^2) off the forecast's variance; runs are
chosen one after the other, each time conditioning the draws on the run just chosen: once by what each
narrows, once by that over its cost, and the narrower end is taken. Where the fit weighs small runs less, a
small run has that much more noise. A run that takes less than WORTH off ends the list. None costs as much as
the run that is to be forecast: that money would buy the answer itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from typing import Any

import numpy as np

from vario.laws._forecast import Forecaster
from vario.laws._newton import Array
from vario.laws._refusal import UNDER_TRAINED
from vario.laws.fit import predict

WORTH = 0.02  # of the forecast's variance: one per cent of its standard deviation


def next_runs(
    plan: Forecaster, target: Mapping[str, float], budget: float, *, runs: int = 5
) -> list[dict[str, Any]]:
    """Up to ``runs`` runs that cost ``budget`` together (``price`` says in which unit).

    Each has its inputs, its cost and its unit, and the relative standard deviation of the forecast's mean
    after it.
    """
    if not 0 < budget < np.inf or runs < 1:
        raise ValueError(f"{runs} runs for {budget:g}: it takes a run or more and a positive budget")
    names = plan.law.inputs
    whole, unit = price(plan, np.array([[target[name] for name in names]]))
    grid = candidates(plan, budget)
    grid = grid[price(plan, grid)[0] < whole[0]]
    if not len(grid):
        raise ValueError(
            f"a budget of {budget:g} {unit} pays for no run of the measured sizes that costs less than the "
            f"one to be forecast ({whole[0]:.3g})"
        )
    draws = plan.known.draws
    seen = _logs(plan, draws, {name: grid[:, i] for i, name in enumerate(names)})
    aim = _logs(plan, draws, target)[:, 0]
    seen, aim = seen - seen.mean(axis=0), aim - aim.mean()
    noise = plan.known.noise**2 / plan.weight(grid.prod(axis=1))
    costs = price(plan, grid)[0]
    ways = [_in_turn(aim, seen, noise, costs, budget, runs, even) for even in (True, False)]
    chosen, after = min(ways, key=lambda way: way[1][-1] if way[1] else np.inf)
    return [
        {
            "inputs": {name: float(grid[best, i]) for i, name in enumerate(names)},
            "cost": float(costs[best]), "unit": unit, "spread_after": spread,
        }
        for best, spread in zip(chosen, after, strict=True)
    ]  # fmt: skip


def _in_turn(
    aim: Array, seen: Array, noise: Array, costs: Array, budget: float, runs: int, even: bool
) -> tuple[list[int], list[float]]:
    """The runs chosen one after the other, and the spread after each.

    ``even``: by what a run narrows, whatever it costs; else by that over its cost. Either may leave more
    of the budget idle than the other.
    """
    left, chosen, after = budget, [], []
    for _ in range(runs):
        variance = (seen**2).mean(axis=0) + noise
        gain = np.where(costs <= left, (seen * aim[:, None]).mean(axis=0) ** 2 / variance, -1.0)
        best = int(np.argmax(gain if even else gain / np.maximum(costs / budget, 0.05)))
        if gain[best] <= WORTH * (aim**2).mean():
            break
        left -= costs[best]
        # The draws keep their spread's exact remainder, noise and all (Whitaker and Hamill's square root)
        taken = seen[:, best] / (variance[best] + np.sqrt(variance[best] * noise[best]))
        cov_aim, cov_seen = (seen[:, best] * aim).mean(), (seen[:, [best]] * seen).mean(axis=0)
        aim, seen = aim - taken * cov_aim, seen - taken[:, None] * cov_seen
        chosen.append(best)
        after.append(float(np.sqrt((aim**2).mean())))
    return chosen, after


def price(plan: Forecaster, grid: Array) -> tuple[Array, str]:
    """What each run of ``grid`` (m, k) costs, and the unit: 6 N D FLOPs, or of a single input itself.

    Raises ValueError for a law of other inputs: what its runs cost is not known.
    """
    inputs = plan.law.inputs
    for counted in (("N", "D"), ("N", "S", "B")):
        if set(counted) <= set(inputs):
            columns = [inputs.index(name) for name in counted]
            return 6.0 * grid[:, columns].prod(axis=1), "FLOPs"
    if len(inputs) == 1:
        return grid[:, 0], f"of {inputs[0]}"
    raise ValueError(
        f"what a run of {' and '.join(inputs)} costs is not known: design needs a law of N and D"
    )


def candidates(plan: Forecaster, budget: float, *, per_input: int = 9) -> Array:
    """A grid (m, k) over the measured range and half a decade above it, within the budget.

    Below it a run would tell most for its cost if the law held there as well, and there it holds least.
    """
    half = 0.5 * np.log(10.0)
    axes = [
        np.exp(np.linspace(low, high + half, per_input))
        for low, high in (plan.ranges[n] for n in plan.law.inputs)
    ]
    grid = np.array(list(product(*axes)))
    grid = grid[price(plan, grid)[0] <= budget]
    if plan.law.units == ("parameters", "tokens"):
        ratio = np.log(grid[:, 1] / grid[:, 0])
        low, high = plan.ranges.get("D/N", (-np.inf, np.inf))  # a shape of run like those that were measured
        grid = grid[(ratio >= max(low - half, np.log(UNDER_TRAINED))) & (ratio <= high + half)]
    return np.asarray(grid)


def spread_now(plan: Forecaster, target: Mapping[str, float]) -> float:
    """Relative standard deviation of the forecast's mean before any new run."""
    return float(_logs(plan, plan.known.draws, target)[:, 0].std())


def _logs(plan: Forecaster, draws: Array, at: Mapping[str, float | Array]) -> Array:
    value = predict(plan.law, draws, at)
    logs = np.log(value) if plan.law.link == "log" else value
    return np.asarray(logs / plan.known.stretch)  # only ever used about its mean
