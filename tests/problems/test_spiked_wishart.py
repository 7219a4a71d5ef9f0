"""Test ``vario.problems.spiked_wishart``."""

from __future__ import annotations

import numpy as np
import pytest

from vario.problems.spiked_wishart import SpikedWishart


def test_batches_have_the_eigenvalues_of_the_limit() -> None:
    problem, batch = SpikedWishart(dimension=150, spikes=(30.0,)), 100
    tops = []
    for seed in range(60):
        x = problem.batch(batch, seed)
        tops.append(np.linalg.eigvalsh(x @ x.T / batch)[-2:])
    second, first = np.mean(tops, axis=0)
    error = np.std([top[1] for top in tops]) / 60**0.5
    assert abs(first - problem.seen(batch)[0]) < 3 * error
    edge = problem.bulk * (1 + (150 / batch) ** 0.5) ** 2
    assert second == pytest.approx(edge, rel=0.06)  # from below, and slowly: as dimension to the power -2/3


@pytest.mark.parametrize("batch", [50, 400, 10_000])
def test_the_population_is_found_again_from_what_is_seen(batch: int) -> None:
    problem = SpikedWishart()
    assert problem.population(float(problem.seen(batch)[0]), batch) == pytest.approx(20.0)


def test_a_spike_below_the_edge_cannot_be_told() -> None:
    problem = SpikedWishart(spikes=(1.5,))
    assert problem.seen(100)[0] == pytest.approx(9.0) and np.isnan(problem.population(9.0, 100))
