"""A quadratic bowl seen through Gaussian noise: curvature, noise scale and the course of SGD are known.

The loss of an example x is half of sum h (w - x)^2 with x ~ N(0, spread^2), so its gradient h (w - x) has the
mean h w and the variance (h spread)^2 in each coordinate.
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
    "papers": ("P173",),
    "shows": ("noise_scale", "hessian_trace", "largest_rate", "critical_batch"),
    "checked": "closed form: gradients drawn by torch, and 2,000 simulated runs of SGD",
    "changed": "",
}


class Bowl(nn.Module):
    """Deviations from the examples, weighted by the root of the curvature: half their square is the loss."""

    def __init__(self, curvature: Tensor, start: float) -> None:
        super().__init__()
        self.root = nn.Buffer(curvature.sqrt())
        self.weight = nn.Parameter(torch.full_like(curvature, start))

    def forward(self, x: Tensor) -> Tensor:
        return (self.weight - x) * self.root  # (examples, dimension)


@dataclass(frozen=True)
class NoisyQuadratic:
    """``start`` is the distance of every weight from the bottom."""

    curvature: tuple[float, ...] = (4.0, 1.0, 0.25)
    start: float = 1.0
    spread: float = 0.5

    @property
    def truth(self) -> Mapping[str, float]:
        """At the start; the critical batch is the noise scale weighted by the Hessian."""
        h = np.asarray(self.curvature)
        variance, mean = (h * self.spread) ** 2, h * self.start
        return {
            "noise_scale": float(variance.sum() / (mean**2).sum()),
            "signal": float((mean**2).sum()),
            "noise": float(variance.sum()),
            "critical_batch": float((h * variance).sum() / (h * mean**2).sum()),
            "hessian_trace": float(h.sum()),
            "largest_rate": float(2.0 / h.max()),
        }

    def model(self) -> Bowl:
        """A fresh one, in double precision."""
        return Bowl(torch.tensor(self.curvature, dtype=torch.float64), self.start)

    def batch(self, size: int, draw: torch.Generator) -> Tensor:
        """Examples (size, dimension)."""
        return self.spread * torch.randn(size, len(self.curvature), generator=draw, dtype=torch.float64)

    @staticmethod
    def loss(output: Tensor) -> Tensor:
        """Mean over the examples."""
        return 0.5 * output.square().sum(dim=1).mean()

    def curve(self, rate: float, batch: int, steps: int) -> Array:
        """Expected excess loss of SGD before each step and after the last."""
        h, square = np.asarray(self.curvature), np.full(len(self.curvature), self.start**2)
        losses = np.empty(steps + 1)
        for t in range(steps + 1):
            losses[t] = 0.5 * float(h @ square)
            square = (1 - rate * h) ** 2 * square + (rate * h * self.spread) ** 2 / batch
        return losses
