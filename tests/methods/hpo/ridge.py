"""Ridge regression with log10 decay as hyperparameter: optimum, hypergradient and best decay are known."""

from __future__ import annotations

import math

import torch
from torch import Tensor


class Ridge:
    """Training loss ||Xw - y||^2 / 2n + 10^lam ||w||^2 / 2, validation loss ||X'w - y'||^2 / 2n."""

    def __init__(self, seed: int, examples: int = 40, width: int = 10, noise: float = 1.0) -> None:
        draw = torch.Generator().manual_seed(seed)
        true = torch.randn(width, generator=draw, dtype=torch.float64)

        def sample() -> tuple[Tensor, Tensor]:
            x = torch.randn(examples, width, generator=draw, dtype=torch.float64)
            return x, x @ true + noise * torch.randn(examples, generator=draw, dtype=torch.float64)

        (self.x, self.y), (self.xv, self.yv) = sample(), sample()
        self.n, self.width = examples, width

    def curvature(self, lam: float) -> Tensor:
        return self.x.T @ self.x / self.n + 10**lam * torch.eye(self.width, dtype=torch.float64)

    def optimum(self, lam: float) -> Tensor:
        return torch.linalg.solve(self.curvature(lam), self.x.T @ self.y / self.n)

    def train(self, w: Tensor, lam: Tensor) -> Tensor:
        return (self.x @ w - self.y).square().sum() / (2 * self.n) + 10 ** lam.sum() * w.square().sum() / 2

    def valid(self, w: Tensor) -> Tensor:
        return (self.xv @ w - self.yv).square().sum() / (2 * self.n)

    def hypergradient(self, lam: float) -> float:
        """dL_V / dlam = -grad L_V . H^-1 (10^lam log 10 w)."""
        w = self.optimum(lam)
        slope = self.xv.T @ (self.xv @ w - self.yv) / self.n
        return float(-slope @ torch.linalg.solve(self.curvature(lam), 10**lam * math.log(10) * w))

    def best(self) -> float:
        """The log10 decay with the least validation loss, by a grid of 1,000."""
        grid = torch.linspace(-4, 2, 1000, dtype=torch.float64).tolist()
        return min(grid, key=lambda lam: float(self.valid(self.optimum(lam))))
