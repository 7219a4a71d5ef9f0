"""Parity with a short reference written from the equation: 30 steps, spikes, a changing learning rate."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

SHAPES = ((7,), (6, 5), (4, 3, 2, 2))


def parameters(seed: int = 0) -> list[nn.Parameter]:
    draw = torch.Generator().manual_seed(seed)
    return [nn.Parameter(torch.randn(shape, generator=draw, dtype=torch.float64)) for shape in SHAPES]


def follow(
    optimizer: torch.optim.Optimizer,
    params: list[nn.Parameter],
    reference: Callable[[list[Tensor], float], list[Tensor]],
    *,
    rtol: float,
    steps: int = 30,
    seed: int = 1,
) -> None:
    """Both go the same way in float64; ``reference(grads, lr)`` returns the new weights."""
    draw = torch.Generator().manual_seed(seed)
    start, base = [p.detach().clone() for p in params], optimizer.param_groups[0]["lr"]
    for step in range(steps):
        lr = base * (1.0 - 0.5 * step / steps) * (2.0 if step % 7 == 6 else 1.0)
        for group in optimizer.param_groups:
            group["lr"] = lr
        spike = 1000.0 if step in (5, 17) else 1.0
        grads = [torch.randn(p.shape, generator=draw, dtype=p.dtype) * spike for p in params]
        for p, g in zip(params, grads, strict=True):
            p.grad = g.clone()
        optimizer.step()
        for p, q in zip(params, reference([g.clone() for g in grads], lr), strict=True):
            torch.testing.assert_close(p.detach(), q, rtol=rtol, atol=rtol * q.abs().max().item())
    assert all(not torch.allclose(p, s, rtol=1e-4) for p, s in zip(params, start, strict=True)), (
        "nothing moved"
    )
