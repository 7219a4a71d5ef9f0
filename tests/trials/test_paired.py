from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from vario.nouns import VarioError
from vario.trials.paired import Paired

DRAW = np.random.default_rng(0)


def of(differences: list[float]) -> Paired:
    return Paired.of(np.zeros(len(differences)), differences)


def test_as_scipy_has_it() -> None:
    a, b = DRAW.standard_normal(13), DRAW.standard_normal(13) + 0.4
    paired, other = Paired.of(a, b), stats.ttest_rel(b, a)
    assert paired.t == pytest.approx(other.statistic) and paired.p_t == pytest.approx(other.pvalue)
    assert paired.interval() == pytest.approx(tuple(other.confidence_interval()))
    flipped = stats.permutation_test((b - a,), np.mean, permutation_type="samples", n_resamples=np.inf)
    assert paired.p_sign_flip == pytest.approx(flipped.pvalue)
    above = int((b > a).sum())
    assert paired.p_sign == pytest.approx(stats.binomtest(above, 13).pvalue)
    assert paired.probability_above == pytest.approx(
        stats.ttest_rel(b, a, alternative="greater").pvalue * -1 + 1
    )


def test_by_hand() -> None:
    paired = of([1.0, 2.0, 3.0])
    assert (paired.mean, paired.spread, paired.pairs) == (2.0, 1.0, 3)
    assert paired.t == pytest.approx(2 * np.sqrt(3))
    assert paired.p_sign_flip == 2 / 8 and paired.p_sign == 2 / 8
    assert of([1.0, 0.0, -1.0, 2.0]).p_sign == 1.0
    long = of([1.0] * 9 + [2.0] * 8)
    assert 1 / 20_001 <= long.p_sign_flip < 10 / 20_001  # by draws; truly 2 / 2 ** 17, and never 0


def test_variance_removed_by_pairing() -> None:
    seed_effect, noise = DRAW.standard_normal(4_000), 0.1
    a = seed_effect + noise * DRAW.standard_normal(4_000)
    b = seed_effect + noise * DRAW.standard_normal(4_000)
    assert Paired.of(a, b).variance_removed == pytest.approx(1 / 1.01, abs=0.01)
    assert Paired.of(a, b[::-1]).variance_removed == pytest.approx(0, abs=0.1)
    assert Paired.of(a, a).variance_removed == 1.0
    assert np.isnan(Paired.of([1.0], [2.0]).variance_removed)


def test_the_interval_of_the_variance_removed_covers_it_and_few_pairs_tell_nothing() -> None:
    draw, true, covered = np.random.default_rng(5), 0.6, 0
    for _ in range(1_000):
        seed_effect = np.sqrt(true) * draw.standard_normal(12)
        a, b = (seed_effect + np.sqrt(1 - true) * draw.standard_normal(12) for _ in range(2))
        low, high = Paired.of(a, b).variance_removed_interval
        covered += low <= true <= high
    assert 930 <= covered <= 975
    values = draw.standard_normal(12)
    assert Paired.of(values, values).variance_removed_interval == (1.0, 1.0)
    assert Paired.of(values[:3], values[3:6]).variance_removed_interval == (-np.inf, np.inf)
    assert Paired.of(values, np.ones(12)).variance_removed_interval == (-np.inf, np.inf)


def test_equal_differences() -> None:
    zero, same = of([0.0] * 5), of([0.1] * 5)
    assert zero.spread == zero.t == 0 and zero.p_t == zero.p_anytime == zero.p_sign_flip == zero.p_sign == 1.0
    assert zero.interval() == (0, 0) and zero.probability_above == 0.5
    assert same.spread == 0 and same.interval() == pytest.approx((0.1, 0.1)) and same.p_sign_flip == 2 / 32
    assert same.p_anytime == 2 / 32 and same.anytime_interval(0.07) == pytest.approx((0.1, 0.1))


def test_few_pairs_say_nothing() -> None:
    for paired in (of([]), of([1.0])):
        assert paired.interval() == paired.anytime_interval() == (-np.inf, np.inf)
        assert paired.p_t == paired.p_anytime == 1.0 and paired.probability_above == 0.5
    assert of([1.0, 2.0]).anytime_interval() == (-np.inf, np.inf)


def test_failed_runs_are_counted_and_not_averaged() -> None:
    nan, inf = float("nan"), float("inf")
    paired = Paired.of([1.0, nan, 2.0, inf, 3.0], [2.0, 1.0, inf, nan, 5.0])
    assert paired.differences.tolist() == [1.0, 2.0] and paired.failures == (1, 1)


def test_arms_of_different_length_are_refused() -> None:
    with pytest.raises(VarioError, match=r"\(3,\) for the baseline and \(2,\)"):
        Paired.of([1, 2, 3], [1, 2])


def coverage(differences: np.ndarray, truth: float, method: str) -> float:
    held = 0
    for row in differences:
        low, high = getattr(of(row), method)(0.05)
        held += low <= truth <= high
    return held / len(differences)


@pytest.mark.parametrize("method", ["interval", "bootstrap_interval"])
@pytest.mark.parametrize("n", [10, 30])
def test_intervals_cover_a_planted_effect(method: str, n: int) -> None:
    differences = 0.3 + np.random.default_rng(2).standard_normal((400, n))
    assert 0.90 <= coverage(differences, 0.3, method) <= 0.98


def test_bootstrap_follows_skewness_better_than_students_interval() -> None:
    differences = np.random.default_rng(3).exponential(1.0, (300, 12))
    assert coverage(differences, 1.0, "bootstrap_interval") >= 0.90
    assert coverage(differences, 1.0, "bootstrap_interval") > coverage(differences, 1.0, "interval")


def test_the_anytime_interval_covers_at_all_sizes_at_once() -> None:
    differences = 0.3 + np.random.default_rng(4).standard_normal((200, 40))
    always = 0
    for row in differences:
        intervals = [of(row[:n]).anytime_interval(0.05) for n in range(6, 41)]
        always += all(low <= 0.3 <= high for low, high in intervals)
    assert always / 200 >= 0.95 - 3 * np.sqrt(0.05 * 0.95 / 200)
