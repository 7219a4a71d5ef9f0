"""Test ``vario.problems.sgd_structured_features``."""

from __future__ import annotations

import numpy as np
import pytest

from vario.problems.sgd_structured_features import SgdStructuredFeatures


def test_simulated_runs() -> None:
    problem = SgdStructuredFeatures()
    exact = problem.curve(0.2, 4, 200)
    assert np.abs(problem.simulate(0.2, 4, 200, 400, seed=0) / exact - 1).max() < 0.04


def test_the_noise_scale_by_its_definition() -> None:
    problem = SgdStructuredFeatures(noise=0.25)
    rng = np.random.default_rng(0)
    lam = problem.eigenvalues
    x = rng.standard_normal((100_000, 50)) * np.sqrt(lam)
    g = (x.sum(axis=1) - 0.5 * rng.standard_normal(100_000))[:, None] * x
    seen = ((g - g.mean(axis=0)) ** 2).sum(axis=1).mean() / (lam**2).sum()
    assert problem.truth["noise_scale"] == pytest.approx(seen, rel=0.05)


def test_the_best_rate_grows_with_the_batch_and_saturates() -> None:
    problem = SgdStructuredFeatures(dimension=20, noise=0.25)
    rates = [problem.tuned(m, 256, rates=np.geomspace(0.02, 1.9, 40))[0] for m in (1, 2, 32)]
    assert 1.6 < rates[1] / rates[0] < 2.4 and rates[2] / rates[0] < 20
    losses = [problem.tuned(m, 256, rates=np.geomspace(0.02, 1.9, 40))[1] for m in (1, 32)]
    assert losses[0] < losses[1]
    assert problem.steps_to(0.5, 8) >= problem.steps_to(0.5, 64)
