"""Test error of ridge regression on random features, from eigenvalues and target coefficients alone.

For n samples, k features and a ridge delta,
gamma solves n = z + delta / kappa with
z = sum_i l_i / (l_i + gamma) and kappa = gamma (k - z) / k. With
q = sum_i (l_i / (l_i + gamma))^2 the error is
(sum_i (gamma / (l_i + gamma) - kappa l_i / (l_i + gamma)^2 k / (k - q)) v_i^2 + noise)
divided by 1 - (q (k - 2 z) + z^2) / (n (k - q)).

When to use: whether more features or more samples will help, and how much ridge is best.
When not to: features that learn; this is the kernel's answer.
"""

from __future__ import annotations

import numpy as np

from vario.laws._newton import Array

CARD = {
    "papers": ("P062",),
    "inputs": ("samples", "features", "ridge"),
    "output": "test error",
    "checked": "closed form: simulated Gaussian features; kernel ridge regression as the limit "
    "of many features",
    "changed": "",
}


def constants(eigenvalues: Array, samples: float, features: float, ridge: float) -> tuple[float, float]:
    """Gamma and kappa, by bisection on log gamma."""
    low, high = -60.0, float(np.log(eigenvalues.sum() + ridge)) + 40.0
    for _ in range(120):
        middle = 0.5 * (low + high)
        gamma = float(np.exp(middle))
        used = float((eigenvalues / (eigenvalues + gamma)).sum())
        small = used >= min(samples, features)
        small = small or used + ridge * features / (gamma * (features - used)) > samples
        low, high = (middle, high) if small else (low, middle)
    gamma = float(np.exp(0.5 * (low + high)))
    used = float((eigenvalues / (eigenvalues + gamma)).sum())
    return gamma, gamma * max(features - used, 0.0) / features


def risk(
    eigenvalues: Array,
    coefficients: Array,
    samples: float,
    features: float,
    ridge: float,
    *,
    noise: float = 0.0,
) -> float:
    """Mean squared error on fresh points.

    ``coefficients`` are the target's on the eigenfunctions; ``noise`` is a variance. The features
    are scaled so that their kernel is the mean over features, and ridge adds to that kernel.
    """
    gamma, kappa = constants(eigenvalues, samples, features, ridge)
    share = eigenvalues / (eigenvalues + gamma)
    z, q = float(share.sum()), float((share**2).sum())
    left = (1.0 - share) - kappa * eigenvalues / (eigenvalues + gamma) ** 2 * features / (features - q)
    crowd = (q * (features - 2.0 * z) + z * z) / (samples * (features - q))
    return (float((left * coefficients**2).sum()) + noise) / (1.0 - crowd)


def best_ridge(
    eigenvalues: Array, coefficients: Array, samples: float, features: float, *, noise: float = 0.0
) -> tuple[float, float]:
    """The ridge with the least test error, and that error, over thirty decades and refined."""
    grid = np.geomspace(1e-12, 1e6, 73) * float(eigenvalues.sum())
    for _ in range(3):
        errors = [risk(eigenvalues, coefficients, samples, features, float(one), noise=noise) for one in grid]
        best = int(np.argmin(errors))
        grid = np.geomspace(grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)], 25)
    return float(grid[len(grid) // 2]), float(min(errors))
