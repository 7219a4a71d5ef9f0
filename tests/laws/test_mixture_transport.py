"""Test ``vario.laws.mixture_transport``."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from vario.laws.mixture_transport import fit_mixture, transport_cost


def test_the_cost_is_the_assignments() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(30, 2)), rng.normal(1.0, 1.0, size=(30, 2))
    cost = ((a[:, None] - b[None]) ** 2).sum(axis=2)
    exact = cost[linear_sum_assignment(cost)].mean()
    assert transport_cost(a, b) == pytest.approx(exact, rel=0.03)
    assert transport_cost(a, a) < 0.03 * cost.mean()


def test_accuracy_is_linear_in_log_size_between_and_beyond() -> None:
    share = np.linspace(0, 1, 9)
    mixtures, ot = np.stack([share, 1 - share], axis=1), (share - 0.6) ** 2
    at = lambda n: 0.5 + 0.05 * np.log(n) - 0.3 * ot  # noqa: E731
    law = fit_mixture(mixtures, ot, (at(100), at(400)), (100.0, 400.0))
    np.testing.assert_allclose(law.predict(mixtures, ot, 1600.0), at(1600), atol=2e-3)
    assert share[law.predict(mixtures, ot, 1600.0).argmax()] == pytest.approx(0.6, abs=0.07)


@pytest.mark.slow
def test_two_sources_seen_at_two_small_sizes() -> None:
    """P041: nearest neighbours on two overlapping sources of a checkerboard; the accuracy of nine unseen
    mixtures at four times the size within 2 points, better than a line in the ratio, and a good choice."""
    rng = np.random.default_rng(0)

    def source(kind: int, count: int) -> np.ndarray:
        return rng.uniform(0, 1, (count, 2)) * [1.2, 1.0] + [0.8 * kind, 0.0]

    def label(x: np.ndarray) -> np.ndarray:
        return (np.floor(x / 0.18).sum(axis=1) % 2).astype(int)

    def mixed(share: float, count: int) -> np.ndarray:
        first = rng.binomial(count, share)
        return np.concatenate([source(0, first), source(1, count - first)])

    task = mixed(0.65, 1_500)

    def accuracy(share: float, count: int, times: int) -> float:
        right = []
        for _ in range(times):
            x = mixed(share, count)
            near = ((task[:, None] - x[None]) ** 2).sum(axis=2).argmin(axis=1)
            right.append((label(x)[near] == label(task)).mean())
        return float(np.mean(right))

    def table(shares: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        far = [transport_cost(mixed(s, 300), task[:300], temperature=0.03, rounds=200) for s in shares]
        return np.stack([shares, 1 - shares], axis=1), np.array(far)

    seen, unseen = np.linspace(0.05, 0.95, 7), np.linspace(0.1, 0.9, 9)
    small = tuple(np.array([accuracy(s, n, 12) for s in seen]) for n in (100, 200))
    law = fit_mixture(*table(seen), small, (100.0, 200.0))
    truth = np.array([accuracy(s, 800, 6) for s in unseen])
    said = law.predict(*table(unseen), 800.0)
    lines = [np.polyval(np.polyfit(seen, one, 1), unseen) for one in small]
    straight = (np.log(8.0) * lines[1] - np.log(4.0) * lines[0]) / np.log(2.0)
    error, plain = np.abs(said - truth).mean(), np.abs(straight - truth).mean()
    print("mean error", error, "of a line", plain, "lost by the choice", truth.max() - truth[said.argmax()])
    assert error < 0.02 and error < plain and truth.max() - truth[said.argmax()] < 0.01
