"""Test ``vario.laws.rate_saturation`` on planted rates and on exact ones."""

from __future__ import annotations

import numpy as np
import pytest

from vario.laws.fit import fit, predict
from vario.laws.rate_saturation import LEAST_GAIN, RATE_SATURATION, RATE_SATURATION_BENT
from vario.problems.sgd_structured_features import SgdStructuredFeatures

BATCH = np.array([1.0, 2, 4, 8, 16, 32, 64, 128])


def test_planted_constants_in_any_unit() -> None:
    noise = np.exp(0.03 * np.random.default_rng(0).standard_normal(8))
    done = fit(RATE_SATURATION, {"B": BATCH * 2048}, 0.3 / (1 + 20 / BATCH) * noise, delta=np.inf)
    found = RATE_SATURATION.derived(done.theta[None])
    assert found["critical_batch"][0] / 2048 == pytest.approx(20, rel=0.15)
    assert found["largest_lr"][0] == pytest.approx(0.3, rel=0.1)
    bent = fit(RATE_SATURATION_BENT, {"B": BATCH}, 3e-3 / (1 + 20 / BATCH) ** 0.5, delta=np.inf)
    assert bent.theta[2] == pytest.approx(0.5, abs=0.01)
    assert np.exp(bent.theta[1]) == pytest.approx(20, rel=0.05)


def test_the_knee_by_its_definition() -> None:
    theta = np.log([[0.3, 20.0]])
    knee = RATE_SATURATION.derived(theta)["knee"][0]
    one, two = predict(RATE_SATURATION, theta, {"B": np.array([knee, 2 * knee])})[0]
    assert two / one == pytest.approx(LEAST_GAIN)


@pytest.mark.parametrize(("noise", "examples"), [(0.25, 1024), (0.4, 512), (0.15, 768)])
def test_where_doubling_the_batch_stops_paying_on_structured_features(noise: float, examples: int) -> None:
    """P185: the fitted batch within a factor of 2 of the one where doubling gains less than 1.75."""
    problem = SgdStructuredFeatures(noise=noise)
    rates = np.array([problem.tuned(int(b), examples, rates=np.geomspace(0.02, 2.5, 80))[0] for b in BATCH])
    gains = rates[1:] / rates[:-1]
    exact = np.exp(np.interp(-LEAST_GAIN, -gains, np.log(BATCH[:-1])))
    done = fit(RATE_SATURATION, {"B": BATCH}, rates, delta=np.inf)
    knee = RATE_SATURATION.derived(done.theta[None])["knee"][0]
    assert 0.5 < knee / exact < 2.0
