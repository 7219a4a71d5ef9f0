from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from tests.instruments.curvature_sample import F64, bowl, least_squares, measured
from tests.instruments.sample import read
from vario.instruments.curvature_trace import CurvatureTrace


def test_least_squares_has_one_trace_twice() -> None:
    for seed in range(5):
        weights, loss, truth = least_squares(60, 40, seed)
        found = read(CurvatureTrace(), **measured("curvature_traces", loss, [weights]))
        for name in ("trace", "gauss_newton_trace"):
            width = found[f"curvature/{name}_high", ""] - found[f"curvature/{name}_low", ""]
            assert abs(found[f"curvature/{name}", ""] - float(truth.trace())) <= width
            assert width < 0.4 * float(truth.trace())


def test_softmax_regression_in_closed_form() -> None:
    """The Hessian is the Gauss-Newton matrix: mean over x of |x|^2 (1 - sum p^2)."""
    draw = torch.Generator().manual_seed(0)
    x, y = torch.randn(50, 6, generator=draw, dtype=F64), torch.randint(0, 4, (50,), generator=draw)
    weights = torch.nn.Parameter(torch.randn(6, 4, generator=draw, dtype=F64))
    p = (x @ weights).softmax(1).detach()
    truth = float((x.square().sum(1) * (1 - p.square().sum(1))).mean())
    loss = F.cross_entropy(x @ weights, y)
    found = read(CurvatureTrace(), **measured("curvature_traces", loss, [weights]))
    assert found["curvature/gauss_newton_trace", ""] == pytest.approx(truth, rel=0.15)
    assert found["curvature/trace", ""] == pytest.approx(truth, rel=0.1)


def test_a_loss_without_outputs_has_no_gauss_newton_part() -> None:
    weights, loss = bowl([4.0, 1.0, 0.25])
    found = read(CurvatureTrace(), **measured("curvature_traces", loss, [weights]))
    assert found["curvature/trace", ""] == pytest.approx(5.25)
    assert ("curvature/gauss_newton_trace", "") not in found
    assert read(CurvatureTrace()) == {}
