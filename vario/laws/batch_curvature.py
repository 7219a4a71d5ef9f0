"""The largest stable learning rate as the batch shrinks: the noise of a batch adds curvature of its own.

A batch Hessian is the true one plus noise of variance s^2 / B per entry, over P parameters. An outlying
eigenvalue lambda then shows itself as lambda + (P s^2 / B) / lambda while it stands above the noise's
edge sqrt(P / B) s, and as the edge, 2 sqrt(P / B) s, below it. SGD's rate goes like its inverse:
linear in B for small batches, constant for large ones. Adam's rate goes like sqrt(B) while noise rules.

When to use: extremal eigenvalues measured at two or more batches (`from_two_batches`).
When not to: heavy-tailed gradients or batches of a few examples; the noise is not Gaussian there.
"""

from __future__ import annotations

import numpy as np

from vario.laws._newton import Array

CARD = {
    "papers": ("P017",),
    "inputs": ("batch",),
    "output": "curvature",
    "checked": "closed form: spiked Wigner and Wishart matrices drawn here",
    "changed": "",
}


def batch_eigenvalue(true: float, noise: float, batch: Array | float) -> Array:
    """Top eigenvalue seen with ``batch`` examples; ``noise`` is P s^2: of one row of its Hessian."""
    share = noise / np.asarray(batch, float)
    edge = np.sqrt(share)
    return np.asarray(np.where(true > edge, true + share / true, 2.0 * edge))


def from_two_batches(small: tuple[float, float], large: tuple[float, float]) -> tuple[float, float]:
    """The true eigenvalue and the noise P s^2 from (batch, eigenvalue) at two batches above the edge.

    lambda_B = lambda + (P s^2 / lambda) / B is a line in 1 / B: level lambda, slope P s^2 / lambda.
    """
    (b1, seen1), (b2, seen2) = small, large
    if b1 == b2:
        raise ValueError(f"two different batches are needed; both are {b1:g}")
    slope = (seen1 - seen2) / (1.0 / b1 - 1.0 / b2)
    true = seen2 - slope / b2
    return true, slope * true


def largest_lr(true: float, noise: float, batch: Array | float, *, optimizer: str = "sgd") -> Array:
    """2 / lambda_B for SGD; for Adam relative to batch 1: a square root, capped where noise ends."""
    seen = batch_eigenvalue(true, noise, batch)
    if optimizer == "sgd":
        return np.asarray(2.0 / seen)
    if optimizer != "adam":
        raise ValueError(f"optimizer is 'sgd' or 'adam', not {optimizer!r}")
    return np.asarray(np.sqrt(np.minimum(np.asarray(batch, float), max(noise / true**2, 1.0))))


def wishart_eigenvalue(true: float, ratio: Array | float) -> Array:
    """Top eigenvalue of a sample covariance, one spike over unit noise; ratio = features / examples."""
    ratio = np.asarray(ratio, float)
    return np.asarray(
        np.where(true > 1 + np.sqrt(ratio), true * (1 + ratio / (true - 1)), (1 + np.sqrt(ratio)) ** 2)
    )
