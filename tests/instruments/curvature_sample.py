"""Problems whose second derivatives are known in closed form, and one step of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from vario.capture.curvature.kept import KeptGraph
from vario.capture.curvature.measures import MEASURES, Step

F64 = torch.float64


def least_squares(rows: int, width: int, seed: int = 0) -> tuple[nn.Parameter, Tensor, Tensor]:
    """Weights, the loss mean (x w - y)^2, and its Hessian 2 X'X / rows."""
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, width, generator=draw, dtype=F64) * torch.linspace(0.2, 2, width, dtype=F64)
    y = torch.randn(rows, generator=draw, dtype=F64)
    weights = nn.Parameter(torch.zeros(width, 1, dtype=F64))
    loss = torch.nn.functional.mse_loss((x @ weights)[:, 0], y)
    return weights, loss, 2 * x.T @ x / rows


def bowl(curvatures: Sequence[float]) -> tuple[nn.Parameter, Tensor]:
    """Weights of one at a quadratic with these curvatures."""
    weights = nn.Parameter(torch.ones(len(curvatures), dtype=F64))
    return weights, 0.5 * (torch.tensor(curvatures, dtype=F64) * weights**2).sum()


@contextmanager
def step_of(loss: Tensor, params: Sequence[Tensor], **known: Any) -> Iterator[Step]:
    with KeptGraph(loss, {id(p): str(k) for k, p in enumerate(params)}) as kept:
        yield Step(kept, list(params), **known)


def measured(need: str, loss: Tensor, params: Sequence[Tensor], **known: Any) -> dict[str, Any]:
    """The need of one step, as an instrument is offered it."""
    with step_of(loss, params, **known) as step:
        return {need: MEASURES[need](step)}
