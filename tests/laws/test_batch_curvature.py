"""Test ``vario.laws.batch_curvature`` against drawn matrices."""

from __future__ import annotations

import numpy as np
import pytest

from vario.laws.batch_curvature import batch_eigenvalue, from_two_batches, largest_lr, wishart_eigenvalue


def test_a_spiked_wigner_matrix() -> None:
    rng, size, noise = np.random.default_rng(0), 300, 300.0
    for batch in (20, 100, 400):
        draw = rng.standard_normal((size, size)) * np.sqrt(noise / size / batch)
        matrix = (draw + draw.T) / np.sqrt(2)
        matrix[0, 0] += 3.0
        assert np.linalg.eigvalsh(matrix)[-1] == pytest.approx(
            float(batch_eigenvalue(3.0, noise, batch)), rel=0.1
        )


def test_a_spiked_covariance() -> None:
    rng, size = np.random.default_rng(1), 200
    for count in (100, 400, 1600):
        x = rng.standard_normal((count, size))
        x[:, 0] *= np.sqrt(4.5)
        assert np.linalg.eigvalsh(x.T @ x / count)[-1] == pytest.approx(
            float(wishart_eigenvalue(4.5, size / count)), rel=0.15
        )


def test_two_batches_give_the_truth_back_and_the_rates() -> None:
    seen = [(b, float(batch_eigenvalue(4.0, 300.0, b))) for b in (64.0, 512.0)]
    assert from_two_batches(seen[0], seen[1]) == pytest.approx((4.0, 300.0))
    small = largest_lr(4.0, 1e6, np.array([1.0, 4.0]), optimizer="sgd")
    assert small[1] / small[0] == pytest.approx(2.0)  # below the spike the edge rules: sqrt of the batch
    adam = largest_lr(4.0, 300.0, np.array([1.0, 4.0, 1e6]), optimizer="adam")
    assert adam[1] / adam[0] == 2 and adam[2] == pytest.approx(np.sqrt(300 / 16))
    with pytest.raises(ValueError, match="two different"):
        from_two_batches((8, 1.0), (8, 1.0))
