"""Skill against compute when the problem itself grows: a clipped line whose ends move with the size.

Elo = min(0, max(incline . (log C, size, 1), plateau . (size, 1))), relative to perfect play at 0: random
until a first compute, then rising by a fixed number of points per tenfold, then perfect. Train and
test compute trade along a line in logs. `elo` solves ratings from a matrix of wins.

When to use: a family of problems with one size knob, to foretell a size that is too costly to train.
When not to: a plateau that is not perfect play; the ceiling is taken to be 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np

from vario.laws._newton import Array, minimise

CARD = {
    "papers": ("P324",),
    "inputs": ("size", "C"),
    "output": "elo",
    "checked": "closed form: planted sizes 3 to 7 foretell 8 and 9; planted ratings; data: "
    "board games of sizes 3 to 7",
    "changed": "the two corners are softened while fitting and sharp when predicting",
}


@dataclass(frozen=True)
class ProblemSize:
    """Points per log10 of compute, per unit of size, level; plateau per unit of size, and its level."""

    per_decade: float
    per_size: float
    level: float
    plateau_per_size: float
    plateau: float

    def elo(self, size: Array | float, compute: Array | float) -> Array:
        incline = self.per_decade * np.log10(compute) + self.per_size * np.asarray(size, float) + self.level
        return np.minimum(
            0.0, np.maximum(incline, self.plateau_per_size * np.asarray(size, float) + self.plateau)
        )

    def compute_for(self, size: float, elo: float) -> float:
        """Compute at which this size reaches ``elo`` (below 0)."""
        return float(10.0 ** ((elo - self.per_size * size - self.level) / self.per_decade))


def fit_sizes(size: Array, compute: Array, elo: Array, *, softness: float = 0.02) -> ProblemSize:
    """Fit all five numbers at once; ``softness`` of the corners, in standard deviations of elo."""
    size, log_c, elo = np.asarray(size, float), np.log10(np.asarray(compute, float)), np.asarray(elo, float)
    unit, mid_s, mid_c = float(elo.std()), float(size.mean()), float(log_c.mean())
    s, c, goal = size - mid_s, log_c - mid_c, elo / unit

    def evaluate(theta: Array) -> tuple[Array, Array]:
        slope, per_size, level, plateau_size, plateau = theta.T[:, :, None]
        rise, flat = slope * c + per_size * s + level, plateau_size * s + plateau
        up = _sigmoid((rise - flat) / softness)
        inner = softness * np.logaddexp(rise / softness, flat / softness)
        low = _sigmoid(-inner / softness)
        value = -softness * np.logaddexp(-inner / softness, 0.0)
        down = low * (1.0 - up)
        slopes = np.stack([low * up * c, low * up * s, low * up, down * s, down], axis=1)
        return value, slopes

    starts = np.array(list(product((0.5, 1.5, 3.0), (-1.0, -0.3), (-1.0, -2.0), (-0.5, -1.5), (-1.0, -2.0))))
    ends, totals = minimise(evaluate, starts, goal, rounds=300)
    slope, per_size, level, plateau_size, plateau = ends[int(np.argmin(totals))] * unit
    return ProblemSize(
        float(slope),
        float(per_size),
        float(level - slope * mid_c - per_size * mid_s),
        float(plateau_size),
        float(plateau - plateau_size * mid_s),
    )


def train_and_test(train: Array, test: Array, elo: Array) -> tuple[float, float, float]:
    """Elo = a + b log10 train + c log10 test; b / c is the decades of test that one of training saves."""
    table = np.stack([np.ones(len(elo)), np.log10(train), np.log10(test)], axis=1)
    a, b, c = np.linalg.lstsq(table, np.asarray(elo, float), rcond=None)[0]
    return float(a), float(b), float(c)


def ratings(wins: Array, *, rounds: int = 500) -> Array:
    """Elo ratings (mean 0) of the largest likelihood from ``wins[i, j]``, games that i won against j."""
    games = wins + wins.T
    if (games.sum(axis=1) == 0).any():
        raise ValueError(f"player {int(np.argmax(games.sum(axis=1) == 0))} played no game")
    strength = np.zeros(len(wins))
    for _ in range(rounds):
        chance = _sigmoid(strength[:, None] - strength[None])
        slope = (wins - games * chance).sum(axis=1)
        weight = games * chance * (1.0 - chance)
        curve = np.diag(weight.sum(axis=1)) - weight + 1.0 / len(wins)
        step = np.linalg.solve(curve, slope)
        strength += np.clip(step, -2.0, 2.0)
        if np.abs(step).max() < 1e-10:
            break
    return np.asarray((strength - strength.mean()) * 400.0 / np.log(10.0))


def _sigmoid(x: Array) -> Array:
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * x)))
