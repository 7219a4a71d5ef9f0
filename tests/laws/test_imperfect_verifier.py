"""Test ``vario.laws.imperfect_verifier``."""

from __future__ import annotations

import numpy as np
import pytest

from tests.laws.tables import table
from vario.laws.imperfect_verifier import Verifier, accuracy, best_tries, ceiling, reward


def test_drawn_tries() -> None:
    rng = np.random.default_rng(0)
    check = Verifier(hit=0.9, slip=0.1)
    for tries in (1, 5, 20):
        right = rng.random((50_000, tries)) < 0.3
        passed = rng.random((50_000, tries)) < np.where(right, 0.9, 0.1)
        first = passed.argmax(axis=1)
        good = (passed.any(axis=1) & right[np.arange(50_000), first]).mean()
        assert float(accuracy(0.3, check, tries)[0]) == pytest.approx(good, abs=3 * 0.5 / 50_000**0.5)


def test_the_ceiling_and_the_best_number_of_tries() -> None:
    p = np.random.default_rng(0).beta(0.5, 2.0, 300)
    check = Verifier(0.95, 0.1)
    assert ceiling(p, check) == pytest.approx(float(accuracy(p, check, 10**6)[0]), abs=1e-3)
    brute = [float(reward(p, check, k, wrong=-1.0)[0]) for k in range(200)]
    assert best_tries(p, check, wrong=-1.0, most=199) == int(np.argmax(brute))
    assert best_tries(p, Verifier(1.0, 0.0)) is None
    assert best_tries(p, check, wrong=-100.0) == 0


def test_published_best_numbers_fall_with_the_price_of_a_mistake() -> None:
    data = table("flaws_optimal_k.csv")
    for model in np.unique(data["model"]):
        rows = data["model"] == model
        order = np.argsort(-data["false_positive_reward"][rows])
        assert (np.diff(data["k_opt"][rows][order]) <= 0).all()
