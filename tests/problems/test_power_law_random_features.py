"""Test ``vario.problems.power_law_random_features``."""

from __future__ import annotations

import numpy as np
import pytest

from vario.laws.isoflop import frontier
from vario.problems.power_law_random_features import PowerLawRandomFeatures, compute_table


def test_simulation_recursion_and_equation_agree() -> None:
    one = PowerLawRandomFeatures(coordinates=200, rate=0.2).task(0, 50)
    exact = one.curve(400)
    np.testing.assert_allclose(one.volterra(400), exact, rtol=1e-10)
    np.testing.assert_allclose(one.losses_at(np.arange(401)), exact, rtol=1e-9)
    assert np.abs(one.simulate(400, 200, seed=1) / exact - 1).max() < 0.1


@pytest.mark.slow
def test_a_planner_finds_the_exponent_of_the_theory() -> None:
    problem = PowerLawRandomFeatures(1.0, 0.3, coordinates=2000)
    sizes = np.unique(np.geomspace(12, 600, 16).astype(int))
    runs = compute_table(problem, sizes, 10**6, draws=2)
    rows = []
    for c in np.geomspace(1e4, 1e6, 12):
        for n in sizes:
            own = runs[:, 0] == n
            rows.append((c, n, np.exp(np.interp(np.log(c / n), np.log(runs[own, 1]), np.log(runs[own, 2])))))
    found = frontier(*np.array(rows).T, noise=lambda loss: 0.002 * loss, draws=200)
    assert found.exponent == pytest.approx(problem.truth["size_exponent"], abs=0.03)


def test_other_phases_are_not_claimed() -> None:
    with pytest.raises(ValueError, match="phase Ia"):
        _ = PowerLawRandomFeatures(0.4, 0.3).truth
