from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.instruments.curvature_sample import F64, measured
from tests.instruments.sample import read
from vario.instruments.tangent_kernel import TangentKernel


def kernel(x: torch.Tensor) -> dict[str, float]:
    weights = nn.Parameter(torch.zeros(x.shape[1], 1, dtype=F64))
    loss = nn.functional.mse_loss(x @ weights, torch.ones(len(x), 1, dtype=F64))
    found = read(TangentKernel(), **measured("tangent_kernel", loss, [weights]))
    return {series.removeprefix("tangent/"): value for (series, _), value in found.items()}


def test_a_linear_model_has_the_kernel_of_its_inputs() -> None:
    found = kernel(2 * torch.eye(5, dtype=F64))
    assert found == pytest.approx({"largest": 4, "trace": 20, "directions": 5, "examples": 5})
    assert kernel(torch.ones(6, 3, dtype=F64))["directions"] == pytest.approx(1.0)


def test_at_most_32_examples_are_looked_at() -> None:
    assert (
        kernel(torch.randn(100, 7, dtype=F64, generator=torch.Generator().manual_seed(0)))["examples"] == 32
    )
    assert read(TangentKernel()) == {}
