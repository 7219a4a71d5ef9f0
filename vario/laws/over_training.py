"""Loss when small models see far more tokens than is compute-optimal.

L(C, M) = E + (a M^eta + b M^-eta) C^-eta, with C = 6 N D and M = D / N tokens per parameter. This is
the two-term law with alpha = beta = 2 eta, written in the quantities that a training plan fixes.
``fit_published`` is the authors' own protocol: least squares in nats on a handful of runs.

When to use: five to twenty runs, at least one of them over-trained; forecasts at large M.
When not to: alpha and beta really differ. The fit compares itself with the free two-term law and warns.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from vario.laws._newton import Array
from vario.laws.fit import Fit, Projection, fit, project
from vario.laws.two_term import TWO_TERM, TwoTermTied

CARD = {
    "papers": ("P085",),
    "inputs": ("N", "D"),
    "output": "loss",
    "checked": "result: the published constants on RedPajama and both of its forecasts, from "
    "the same five runs",
    "changed": "eta by a one-dimensional search with E, a, b solved exactly, not a general optimiser",
}


@dataclass(frozen=True)
class OverTraining(TwoTermTied):
    """Parameters e, a, b, eta: logs of the scales of a M^eta and b M^-eta."""

    id: str = "over-training"
    names: tuple[str, ...] = ("e", "a", "b", "eta")

    def _whole(self, theta: Array) -> Array:
        e, a, b, eta = theta.T
        less = eta * np.log(6.0)
        return np.stack([e, a - less, 2 * eta, b - less, 2 * eta], axis=1)

    def evaluate(self, theta: Array, x: Array) -> tuple[Array, Array]:
        value, whole = TWO_TERM.evaluate(self._whole(theta), x)
        less = np.log(6.0)
        eta = 2 * (whole[:, 2] + whole[:, 4]) - less * (whole[:, 1] + whole[:, 3])
        return value, np.stack([whole[:, 0], whole[:, 1], whole[:, 3], eta], axis=1)

    def raw(self, theta: Array, centre: Array, level: float) -> Array:
        e, a, b, eta = theta.T
        return np.stack(
            [e + level, a + level + 2 * eta * centre[0], b + level + 2 * eta * centre[1], eta], axis=1
        )

    def starts(self) -> Array:
        tied = super().starts()
        tied[:, 3] /= 2.0
        return tied


def fit_published(n: Array, d: Array, loss: Array) -> Projection:
    """E, a, b (``coefficients``) and eta (``shape``) by least squares in the loss itself."""
    compute, ratio = 6.0 * np.asarray(n) * np.asarray(d), np.asarray(d) / np.asarray(n)

    def columns(eta: float) -> Array:
        return np.stack([np.ones_like(compute), (ratio / compute) ** eta, (ratio * compute) ** -eta], axis=1)

    return project(columns, np.asarray(loss, float), np.geomspace(0.02, 0.8, 60))


def predict_published(done: Projection, n: Array, d: Array) -> Array:
    """Loss at N, D from a fit by ``fit_published``."""
    compute, ratio = 6.0 * np.asarray(n) * np.asarray(d), np.asarray(d) / np.asarray(n)
    e, a, b = done.coefficients
    return np.asarray(e + (a * ratio**done.shape + b * ratio**-done.shape) * compute**-done.shape)


def tied_is_enough(done: Fit) -> tuple[bool, float]:
    """Whether one exponent fits as well as two, and by what factor the objective falls with two.

    The limit is a likelihood ratio for one more parameter: exp(3.84 / n).
    """
    x: Mapping[str, Array] = {name: np.exp(row) for name, row in zip(done.law.inputs, done.x, strict=True)}
    free = fit(TWO_TERM, x, np.exp(done.y), delta=done.delta)
    ratio = done.objective / max(free.objective, 1e-300)
    return ratio < float(np.exp(3.84 / len(done.y))), ratio


OVER_TRAINING = OverTraining()
