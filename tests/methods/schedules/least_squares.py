"""Least squares whose gradient covariance and noise scale are known in closed form."""

from __future__ import annotations

import torch
from torch import Tensor


class LeastSquares:
    """y = x . w + noise, x ~ N(0, I); per-example gradient at w + e: x (x . e) - x * noise."""

    def __init__(self, size: int = 20, spread: float = 0.5, seed: int = 0) -> None:
        self.draw = torch.Generator().manual_seed(seed)
        self.offset = torch.randn(size, generator=self.draw, dtype=torch.float64) / size**0.5
        self.spread = spread
        length = self.offset.square().sum().item()
        self.grad_sq = length  # E[x x'] e = e
        self.variance = (size + 1) * length + size * spread**2  # E|x (x.e)|^2 = (d + 2)|e|^2

    def grads(self, count: int) -> Tensor:
        x = torch.randn(count, len(self.offset), generator=self.draw, dtype=torch.float64)
        noise = self.spread * torch.randn(count, generator=self.draw, dtype=torch.float64)
        return x * (x @ self.offset - noise)[:, None]
