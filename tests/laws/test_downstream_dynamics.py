"""Test ``vario.laws.downstream_dynamics``."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import spearmanr

from vario.laws.downstream_dynamics import alike, order_kept, reached


def test_rank_correlations_are_scipys_ties_too() -> None:
    rng = np.random.default_rng(0)
    small = {"a": np.round(rng.normal(size=12), 1), "b": rng.normal(size=12)}
    large = {"a": rng.normal(size=12), "b": np.round(rng.normal(size=12), 1)}
    same, other = alike(small, large)
    for name in same:
        assert same[name] == pytest.approx(spearmanr(small[name], large[name])[0])
    crossed = [spearmanr(small["a"], large["b"])[0], spearmanr(small["b"], large["a"])[0]]
    assert other == pytest.approx(np.mean(crossed))


def test_the_order_of_skills_and_what_is_too_near_to_call() -> None:
    small = {"a": np.array([0.1, 0.2, 0.5]), "b": np.array([0.2, 0.3, 0.4])}
    large = {"a": np.array([0.1, 0.4, 0.8]), "b": np.array([0.3, 0.35, 0.6])}
    assert order_kept(small, large) == pytest.approx(2 / 3)
    assert order_kept(small, large, apart=0.1) == 1.0
    with pytest.raises(ValueError, match="a has 2 checkpoints in one model, not 3"):
        order_kept({"a": np.array([0.1, 0.2])}, large)
    with pytest.raises(ValueError, match="no skill in common"):
        alike({"c": small["a"]}, large)


def test_when_a_skill_has_come_half_its_way() -> None:
    tokens = np.array([1e3, 1e4, 1e5, 1e6])
    assert reached(tokens, np.array([0.0, 0.1, 0.9, 1.0])) == pytest.approx(10**4.5)
    assert reached(tokens, np.array([0.0, 0.6, 0.5, 1.0]), share=0.6) == pytest.approx(1e4)
    assert reached(tokens, np.full(4, 0.3)) == 1e3
