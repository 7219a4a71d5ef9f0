from __future__ import annotations

import pytest
import torch

from tests.instruments.curvature_sample import F64, bowl, measured
from tests.instruments.sample import read
from vario.instruments.curvature_step import CurvatureStep


def test_directions_of_a_bowl_have_their_mean_curvatures() -> None:
    weights, loss = bowl([4.0, 1.0])
    before = weights.detach() + torch.tensor([0.0, 0.3], dtype=F64)
    found = read(CurvatureStep(), **measured("curvature_slopes", loss, [weights], before=[before]))
    # the gradient is (4, 1): (16 * 4 + 1 * 1) / 17
    assert found["curvature/along_gradient", ""] == pytest.approx(65 / 17)
    assert found["curvature/along_step", ""] == pytest.approx(1.0)


def test_no_direction_no_reading() -> None:
    weights, _ = bowl([4.0, 1.0])
    weights.data.zero_()
    loss = (weights**2).sum()
    same = [weights.detach().clone()]
    assert read(CurvatureStep(), **measured("curvature_slopes", loss, [weights], before=same)) == {}
    assert read(CurvatureStep()) == {}
