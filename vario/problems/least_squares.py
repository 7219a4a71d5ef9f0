"""Least squares on Gaussian features with label noise: the gradient noise scale has a closed form.

An example is x ~ N(0, diag(l)), y = w* x + e with e ~ N(0, noise); its gradient at w is (d x + e') x with
d = w - w*. By Isserlis' theorem E|g|^2 = tr(l) (d' L d + noise) + 2 d' L^2 d, and E g = L d.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

Array = NDArray[np.float64]

CARD = {
    "papers": ("P173", "P030"),
    "shows": ("noise_scale", "signal", "noise", "norm_test_batch"),
    "checked": "closed form: a million drawn gradients",
    "changed": "",
}


@dataclass(frozen=True)
class LeastSquares:
    """Spectrum k^-decay, every weight at a distance of 1 from its target."""

    dimension: int = 20
    decay: float = 0.5
    noise: float = 1.0

    @property
    def eigenvalues(self) -> Array:
        return np.arange(1, self.dimension + 1, dtype=float) ** -self.decay

    @property
    def truth(self) -> Mapping[str, float]:
        """At the start. ``norm_test_batch``: the smallest that passes P030's norm test with eta = 1."""
        lam = self.eigenvalues
        signal = float((lam**2).sum())
        whole = float(lam.sum() * (lam.sum() + self.noise)) + 2 * signal
        return {
            "signal": signal,
            "noise": whole - signal,
            "noise_scale": (whole - signal) / signal,
            "norm_test_batch": float(np.ceil((whole - signal) / signal)),
        }

    def model(self) -> nn.Linear:
        """At the start: the target is 0, every weight is 1."""
        model = nn.Linear(self.dimension, 1, bias=False, dtype=torch.float64)
        nn.init.ones_(model.weight)
        return model

    def batch(self, size: int, draw: torch.Generator) -> tuple[Tensor, Tensor]:
        """Features (size, dimension) and labels (size, 1)."""
        x = torch.randn(size, self.dimension, generator=draw, dtype=torch.float64)
        y = self.noise**0.5 * torch.randn(size, 1, generator=draw, dtype=torch.float64)
        return x * torch.from_numpy(self.eigenvalues).sqrt(), y

    @staticmethod
    def loss(output: Tensor, y: Tensor) -> Tensor:
        """Half the squared error, mean over the examples."""
        return 0.5 * (output - y).square().mean()
