"""Test ``vario.laws.problem_size``."""

from __future__ import annotations

import numpy as np
import pytest

from tests.laws.tables import table
from vario.laws.problem_size import ProblemSize, fit_sizes, ratings, train_and_test


def test_small_sizes_foretell_larger_ones() -> None:
    truth = ProblemSize(500.0, -450.0, -3800.0, -250.0, 100.0)
    rng = np.random.default_rng(0)
    size = np.repeat([3.0, 4, 5, 6, 7], 60)
    compute = 10 ** rng.uniform(9, 15, 300)
    done = fit_sizes(size, compute, truth.elo(size, compute) + 10 * rng.standard_normal(300))
    at = np.geomspace(1e10, 1e17, 30)
    for large in (8.0, 9.0):
        wanted = truth.elo(large, at)
        assert np.abs(done.elo(large, at) - wanted).mean() < 0.1 * np.ptp(wanted)
    assert done.elo(5.0, done.compute_for(5.0, -300.0)) == pytest.approx(-300.0)


def test_board_games() -> None:
    data = table("boardgames_3_7.csv")
    small = data["boardsize"] <= 6
    done = fit_sizes(data["boardsize"][small], data["train_flops"][small], data["elo"][small])
    large = ~small
    miss = np.abs(done.elo(data["boardsize"][large], data["train_flops"][large]) - data["elo"][large])
    assert miss.mean() < 0.15 * np.ptp(data["elo"][large])


def test_planted_ratings_and_the_trade() -> None:
    truth = np.array([-200.0, -50, 50, 200])
    chance = 1 / (1 + 10 ** ((truth[None] - truth[:, None]) / 400))
    wins = np.random.default_rng(0).binomial(20_000, chance).astype(float)
    upper = np.triu(wins, 1)
    wins = upper + np.tril(20_000 - upper.T, -1)
    np.testing.assert_allclose(ratings(wins), truth, atol=10)
    train, test = (g.ravel() for g in np.meshgrid(np.geomspace(1, 1e4, 5), np.geomspace(1, 1e3, 5)))
    assert train_and_test(train, test, 100 + 200 * np.log10(train) + 170 * np.log10(test)) == pytest.approx(
        (100, 200, 170)
    )
