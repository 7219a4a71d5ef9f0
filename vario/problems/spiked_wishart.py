"""Least squares with a few strong directions in a cloud of weak ones, and the Hessian that a batch shows.

The Hessian of a batch of n examples is their sample covariance. With the population's eigenvalues l above a
bulk s^2 in dimension d and g = d / n, an l above s^2 (1 + sqrt g) is seen at l (1 + g s^2 / (l - s^2)); all
else is seen inside the bulk, whose edge is s^2 (1 + sqrt g)^2. So small batches look sharper than they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

CARD = {
    "papers": ("P017",),
    "shows": ("batch_top_eigenvalue", "top_eigenvalue"),
    "checked": "closed form (Baik, Ben Arous, Peche): the top eigenvalue of drawn batches within 2 %",
    "changed": "the exact limit for a covariance; P017 has an additive noise, the same to first order in g",
}


@dataclass(frozen=True)
class SpikedWishart:
    """``spikes`` are population eigenvalues; the other ``dimension - len(spikes)`` are ``bulk``."""

    dimension: int = 400
    spikes: tuple[float, ...] = (20.0, 8.0)
    bulk: float = 1.0

    @property
    def truth(self) -> Mapping[str, float]:
        """Of the population, and of a batch of as many examples as there are dimensions."""
        return {
            "top_eigenvalue": max(self.spikes),
            "batch_top_eigenvalue": float(self.seen(self.dimension)[0]),
            "hessian_trace": sum(self.spikes) + self.bulk * (self.dimension - len(self.spikes)),
        }

    def seen(self, batch: int) -> Array:
        """Where the spikes stand in the Hessian of a batch, in the limit of large dimensions."""
        ratio = self.dimension / batch
        edge = self.bulk * (1 + np.sqrt(ratio)) ** 2
        spikes = np.asarray(self.spikes)
        out = spikes > self.bulk * (1 + np.sqrt(ratio))
        with np.errstate(divide="ignore"):
            moved = spikes * (1 + ratio * self.bulk / (spikes - self.bulk))
        return np.asarray(np.where(out, moved, edge))

    def population(self, seen: float, batch: int) -> float:
        """The population's eigenvalue behind one that is seen above the bulk; nan where it is inside.

        The inverse of ``seen``: the larger root of l^2 + l (s^2 (g - 1) - seen) + seen s^2 = 0.
        """
        ratio = self.dimension / batch
        if seen <= self.bulk * (1 + np.sqrt(ratio)) ** 2:
            return float("nan")
        middle = (seen + self.bulk * (1 - ratio)) / 2
        return float(middle + np.sqrt(middle**2 - seen * self.bulk))

    def batch(self, size: int, seed: int) -> Array:
        """Examples (size, dimension), spikes first."""
        spectrum = np.full(self.dimension, self.bulk)
        spectrum[: len(self.spikes)] = self.spikes
        drawn = np.random.default_rng(seed).standard_normal((size, self.dimension))
        scaled: Array = drawn * np.sqrt(spectrum)
        return scaled
