"""Mean error on downstream tasks falls with the loss: Err(L) = epsilon - k exp(-gamma L).

epsilon is the error of guessing. Three numbers, of which two are linear: gamma by search, the
others exactly.

When to use: an average over many tasks whose errors are above chance for some runs.
When not to: one task alone; it may stay at chance and then jump. See `downstream-difficulty`.
"""

from __future__ import annotations

import numpy as np

from vario.laws._newton import Array
from vario.laws.fit import Projection, project

CARD = {
    "papers": ("P085",),
    "inputs": ("loss",),
    "output": "error",
    "checked": "result: published constants and both forecasts on RedPajama",
    "changed": "",
}


def fit_error(loss: Array, error: Array) -> Projection:
    """Epsilon and k (``coefficients``) and gamma (``shape``) from losses and mean errors of the same runs."""
    loss = np.asarray(loss, float)

    def columns(gamma: float) -> Array:
        return np.stack([np.ones_like(loss), -np.exp(-gamma * loss)], axis=1)

    return project(columns, np.asarray(error, float), np.geomspace(0.02, 8.0, 80))


def predict_error(done: Projection, loss: Array | float) -> Array:
    """Mean error at these losses."""
    epsilon, k = done.coefficients
    return np.asarray(epsilon - k * np.exp(-done.shape * np.asarray(loss, float)))
