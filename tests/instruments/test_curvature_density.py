from __future__ import annotations

import numpy as np
import pytest

from tests.instruments.curvature_sample import bowl, measured
from tests.instruments.sample import read
from vario.instruments.curvature_density import CurvatureDensity


def test_deciles_and_the_share_below_zero() -> None:
    curvatures = np.concatenate([np.linspace(-2, -1, 60), np.linspace(1, 3, 140)])
    weights, loss = bowl(curvatures.tolist())
    found = read(CurvatureDensity(), **measured("curvature_density", loss, [weights]))
    assert found["curvature/negative_share", ""] == pytest.approx(0.3, abs=0.08)
    deciles = np.array(found["curvature/deciles", ""])
    assert len(deciles) == 11 and (np.diff(deciles) >= 0).all()
    assert deciles[0] == pytest.approx(-2, abs=0.02) and deciles[-1] == pytest.approx(3, abs=0.02)
    assert deciles[7] == pytest.approx(np.quantile(curvatures, 0.7), abs=0.4)


def test_a_bowl_has_nothing_below_zero() -> None:
    weights, loss = bowl([3.0, 1.0, 0.0, 0.0])
    found = read(CurvatureDensity(), **measured("curvature_density", loss, [weights]))
    assert found["curvature/negative_share", ""] == pytest.approx(0.0, abs=1e-9)
    assert read(CurvatureDensity()) == {}
