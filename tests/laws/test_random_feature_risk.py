"""Test ``vario.laws.random_feature_risk`` against drawn features."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from vario.laws.random_feature_risk import best_ridge, risk

LAM = np.arange(1.0, 201.0) ** -1.5
V = np.arange(1.0, 201.0) ** -0.9


@pytest.mark.parametrize(("n", "k", "ridge"), [(50, 100, 1e-2), (100, 50, 1e-2), (60, 300, 1e-3)])
def test_simulated_error(n: int, k: int, ridge: float) -> None:
    rng, errors = np.random.default_rng(0), []
    for _ in range(60):
        mix = np.sqrt(LAM)[:, None] * rng.standard_normal((200, k)) / np.sqrt(k)
        x = rng.standard_normal((n, 200))
        y = x @ V + 0.3 * rng.standard_normal(n)
        phi = x @ mix
        w = phi.T @ np.linalg.solve(phi @ phi.T + ridge * np.eye(n), y)
        errors.append(((mix @ w - V) ** 2).sum() + 0.09)
    assert risk(LAM, V, n, k, ridge, noise=0.09) == pytest.approx(np.mean(errors), rel=0.06)


def test_more_is_better_at_the_best_ridge() -> None:
    by_samples = [best_ridge(LAM, V, n, 80, noise=0.09)[1] for n in (20, 40, 80, 160)]
    by_features = [best_ridge(LAM, V, 80, k, noise=0.09)[1] for k in (20, 40, 80, 160)]
    assert by_samples == sorted(by_samples, reverse=True) and by_features == sorted(by_features, reverse=True)


@pytest.mark.slow
def test_twelve_cases() -> None:
    """P062: theory and 120 simulations at 12 sizes and ridges agree within 5 % (and two standard errors)."""
    for n, k, ridge in product((40, 120), (40, 160, 400), (1e-3, 1e-1)):
        rng, errors = np.random.default_rng(0), []
        for _ in range(120):
            mix = np.sqrt(LAM)[:, None] * rng.standard_normal((200, k)) / np.sqrt(k)
            x = rng.standard_normal((n, 200))
            phi = x @ mix
            y = x @ V + 0.3 * rng.standard_normal(n)
            w = phi.T @ np.linalg.solve(phi @ phi.T + ridge * np.eye(n), y)
            errors.append(((mix @ w - V) ** 2).sum() + 0.09)
        assert risk(LAM, V, n, k, ridge, noise=0.09) == pytest.approx(np.mean(errors), rel=0.05), (
            n,
            k,
            ridge,
        )
