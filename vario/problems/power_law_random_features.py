"""One-pass SGD on power-law random features: exact loss curves and the exact best size for a budget.

min over theta of E (<W' x, theta> - <x, b>)^2, with x_j of variance j^-2alpha, b_j = j^-beta and W a v by d
Gaussian matrix of variance 1/d. The mean loss of SGD at batch 1 is known from the eigenvalues
alone, either by a recursion of second moments or by a Volterra equation. With 2 alpha > 1 and
2 beta < 1 (phase Ia) the best size grows with compute f = d t to the power 1 / (2 alpha + 1), and the loss
falls with (2 alpha + 2 beta - 1) / (2 alpha + 1) to a negative power.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

CARD = {
    "papers": ("P217",),
    "shows": ("size_exponent", "loss_exponent"),
    "checked": "closed form: simulated SGD within 6 % of the Volterra solution; recursion and equation agree",
    "changed": "",
}


@dataclass(frozen=True)
class PowerLawRandomFeatures:
    """The spectrum's alpha, the target's beta, and the number v of coordinates."""

    alpha: float = 1.0
    beta: float = 0.3
    coordinates: int = 400
    rate: float = 0.5  # learning rate, as a share of 1 / trace

    @property
    def truth(self) -> Mapping[str, float]:
        """Exponents of phase Ia: the best size d* and the loss along it, in compute."""
        if not (2 * self.alpha > 1 and 2 * self.beta < 1):
            raise ValueError(
                f"alpha {self.alpha}, beta {self.beta} are not in phase Ia (2 alpha > 1, 2 beta < 1)"
            )
        whole = 2 * self.alpha + 1
        return {
            "size_exponent": 1 / whole,
            "loss_exponent": -(2 * self.alpha + 2 * self.beta - 1) / whole,
        }

    def task(self, seed: int, size: int) -> RandomFeatures:
        """One draw of W with ``size`` features."""
        rng = np.random.default_rng(seed)
        j = np.arange(1, self.coordinates + 1, dtype=float)
        features = rng.standard_normal((self.coordinates, size)) / np.sqrt(size)
        scaled = j[:, None] ** -self.alpha * features
        target = j**-self.alpha * j**-self.beta
        eigenvalues, right = np.linalg.eigh(scaled.T @ scaled)
        along = right.T @ (scaled.T @ target) / np.sqrt(eigenvalues)
        return RandomFeatures(eigenvalues, along, float(target @ target), self.rate)


@dataclass(frozen=True)
class RandomFeatures:
    """One drawn problem in its eigenbasis: eigenvalues, and the target along and outside them."""

    eigenvalues: Array  # (d,) of W' covariance W
    along: Array  # (d,) the target along the features' directions
    target: float  # its squared length
    rate: float

    @property
    def lr(self) -> float:
        return self.rate / float(self.eigenvalues.sum())

    @property
    def floor(self) -> float:
        """Loss that no theta can remove."""
        return self.target - float(self.along @ self.along)

    def curve(self, steps: int) -> Array:
        """Exact mean loss before each of ``steps`` steps and after the last, by the moments' recursion."""
        lam, g = self.eigenvalues, self.lr
        energy = self.along**2  # eigenvalue times squared distance, at theta = 0
        shrink, kick = 1.0 - 2.0 * g * lam + 2.0 * g * g * lam * lam, g * g * lam * lam
        losses = np.empty(steps + 1)
        for t in range(steps + 1):
            losses[t] = energy.sum() + self.floor
            energy = shrink * energy + kick * losses[t]
        return losses

    def losses_at(self, steps: Array) -> Array:
        """The same at any steps, however late: the matrix is a diagonal plus an outer product."""
        lam, g = self.eigenvalues, self.lr
        root = g * lam  # square root of the kick; it makes the matrix symmetric
        values, vectors = np.linalg.eigh(np.diag(1.0 - 2.0 * root + 2.0 * root**2) + np.outer(root, root))
        first, again = vectors.T @ (self.along**2 / root), vectors.T @ root
        power = np.clip(values, 0.0, None)[None] ** np.asarray(steps, float)[:, None]
        built = (1.0 - power) / np.maximum(1.0 - values, 1e-300) * again * self.floor
        return np.asarray((power * first + built) @ again + self.floor)

    def volterra(self, steps: int) -> Array:
        """The same from P(t) = F(t) + sum_s K(t - 1 - s) P(s)."""
        lam, g = self.eigenvalues, self.lr
        shrink = 1.0 - 2.0 * g * lam + 2.0 * g * g * lam * lam
        powers = shrink[None] ** np.arange(steps + 1)[:, None]
        forcing, kernel = powers @ self.along**2 + self.floor, powers @ (g * g * lam * lam)
        losses = np.empty(steps + 1)
        for t in range(steps + 1):
            losses[t] = forcing[t] + kernel[:t][::-1] @ losses[:t]
        return losses

    def simulate(self, steps: int, runs: int, seed: int) -> Array:
        """Mean loss of ``runs`` runs of SGD at batch 1."""
        rng = np.random.default_rng(seed)
        root = np.sqrt(self.eigenvalues)[:, None]
        theta, losses = np.zeros((len(root), runs)), np.empty(steps + 1)
        for t in range(steps + 1):
            miss = root * theta - self.along[:, None]  # (d, runs)
            losses[t] = float((miss**2).sum(axis=0).mean()) + self.floor
            x = rng.standard_normal(miss.shape)  # an example, along the features and off them
            error = (x * miss).sum(axis=0) - np.sqrt(self.floor) * rng.standard_normal(runs)
            theta -= self.lr * root * x * error
        return losses


def compute_table(
    problem: PowerLawRandomFeatures, sizes: Array, steps: int, draws: int, seed: int = 0
) -> Array:
    """Rows (size, step, loss), loss averaged over draws of W: what a planner is given."""
    rows = []
    at = np.unique(np.geomspace(1, steps, 160).astype(int))
    for size in sizes:
        curves = [problem.task(seed + k, int(size)).losses_at(at) for k in range(draws)]
        rows += [
            (float(size), float(t), float(loss)) for t, loss in zip(at, np.mean(curves, axis=0), strict=True)
        ]
    return np.array(rows)
