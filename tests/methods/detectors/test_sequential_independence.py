"""Test ``vario.methods.detectors.sequential_independence``."""

from __future__ import annotations

import math

import pytest
import torch

from vario.methods.detectors import SequentialIndependenceTest


def correlated(count, rho, seed):
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(count, generator=draw, dtype=torch.float64)
    noise = torch.randn(count, generator=draw, dtype=torch.float64)
    return x, rho * x + math.sqrt(1 - rho**2) * noise


def kernel(a, b, gamma):
    return math.exp(-gamma * float(a - b) ** 2)


def reference(x, y, gamma):
    """Wealth after each pair, with loops, from the equations."""
    wealth, bet, squares, payoff, out = 1.0, 0.0, 1.0, None, []
    for t in range(2, len(x) - 1, 2):
        table = lambda z, t=t: torch.tensor(
            [[kernel(a, b, gamma) for b in z[:t]] for a in z[: t + 2]], dtype=torch.float64
        )
        of_x, of_y = table(x), table(y)
        g = lambda i, j, k=of_x, m=of_y: (k[i] * m[j]).mean() - k[i].mean() * m[j].mean()
        center = torch.eye(t, dtype=torch.float64) - 1 / t
        norm = (of_x[:t] @ center @ of_y[:t] @ center).trace().sqrt() / t
        f = float((g(t, t) + g(t + 1, t + 1) - g(t, t + 1) - g(t + 1, t)) / (2 * norm))
        if payoff is not None:
            z = payoff / (1 + payoff * bet)
            squares += z * z
            bet = min(max(bet + 2 / (2 - math.log(3)) * z / squares, 0.0), 0.5)
        wealth *= 1 + bet * f
        payoff = f
        out.append(wealth)
    return out


def test_follows_the_equations():
    x, y = correlated(40, 0.8, 3)
    test = SequentialIndependenceTest(gamma_x=0.5, gamma_y=0.5)
    ours = [test.fit(x[k : k + 2], y[k : k + 2]).wealth for k in range(0, 40, 2)]
    assert ours[1:] == pytest.approx(reference(x, y, 0.5), rel=1e-9)


def test_goes_where_the_authors_code_goes():
    """a-podkopaev/Sequential-Kernelized-Independence-Testing 6ad7e4a, HSIC, mean bets, ONS, gamma 1/2."""
    x, y = correlated(60, 0.8, 12)
    test = SequentialIndependenceTest(gamma_x=0.5, gamma_y=0.5)
    ours = [test.fit(x[k : k + 2], y[k : k + 2]).wealth for k in range(0, 60, 2)]
    theirs = [
        1.0,
        1.0357618804,
        1.7941393068,
        2.6576314314,
        2.688385135,
        2.7570282318,
        4.3155952078,
        5.4183929422,
    ]
    assert ours[1::4] == pytest.approx(theirs, rel=1e-6)  # their length of the first witness has 1e-6 added


def test_points_may_come_in_any_portions():
    x, y = correlated(101, 0.5, 4)
    whole = SequentialIndependenceTest().fit(x, y)
    parts = SequentialIndependenceTest()
    for start, stop in ((0, 7), (7, 20), (20, 23), (23, 24), (24, 101)):
        parts.fit(x[start:stop], y[start:stop])
    assert parts.wealth == pytest.approx(whole.wealth, rel=1e-12) and len(parts.wait_x) == 1


def test_a_fair_bet_has_mean_one():
    """Wealth after 8 pairs of independent points, 150 runs: within 3 standard errors of 1."""
    ends = []
    for seed in range(150):
        x, y = correlated(36, 0.0, 10_000 + seed)
        ends.append(SequentialIndependenceTest().fit(x, y).wealth)
    ends = torch.tensor(ends)
    assert abs(ends.mean() - 1) < 3 * ends.std() / 150**0.5


def test_payoffs_never_cost_everything():
    """Whatever the points, one bet loses at most the stake."""
    draw = torch.Generator().manual_seed(8)
    test = SequentialIndependenceTest(warmup=4)
    before = 0.0
    for _ in range(60):
        points = 10 ** torch.randint(-6, 6, (2, 2), generator=draw).double()
        test.fit(points[:, 0], points[:, 1])
        assert test.log_wealth >= before + math.log(0.5) - 1e-12
        before = test.log_wealth
    constant = SequentialIndependenceTest().fit(torch.ones(50), torch.ones(50))
    assert constant.wealth == 1.0


def test_finds_what_correlation_does_not_see():
    draw = torch.Generator().manual_seed(2)
    x = 2 * torch.rand(600, generator=draw) - 1
    assert SequentialIndependenceTest().fit(x, x**2 + 0.1 * torch.randn(600, generator=draw)).rejected


def test_wealth_beyond_all_numbers_is_infinite():
    test = SequentialIndependenceTest()
    test.log_wealth = test.best = 1000.0
    assert test.wealth == math.inf and test.p_value == 0.0 and test.rejected


def test_points_that_are_not_finite_are_refused():
    """One such point would make every later wealth no number, and the test silent for good."""
    x = torch.randn(60, generator=torch.Generator().manual_seed(0))
    broken = x.clone()
    broken[40] = math.nan
    test = SequentialIndependenceTest()
    for pair in ((broken, x), (x, broken)):
        with pytest.raises(ValueError, match="point 40 of 60"):
            test.fit(*pair)
    assert math.isfinite(test.fit(x, x).log_wealth)


def test_refuses():
    with pytest.raises(ValueError, match="alpha 0"):
        SequentialIndependenceTest(alpha=0.0)


@pytest.mark.slow
def test_false_alarms_under_continuous_monitoring():
    """P265, accept: 400 runs of 200 pairs, looked at after each: rejections <= 5 % + 2 standard errors."""
    alarms = sum(
        SequentialIndependenceTest().fit(*correlated(400, 0.0, 20_000 + seed)).rejected for seed in range(400)
    )
    assert alarms / 400 <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / 400), alarms


@pytest.mark.slow
def test_power():
    """P265, accept: correlation .7: power > .95 within 200 pairs."""
    tests = [SequentialIndependenceTest().fit(*correlated(400, 0.7, 30_000 + seed)) for seed in range(100)]
    assert sum(test.rejected for test in tests) > 95
    stops = [test.stopped_at for test in tests if test.stopped_at]
    assert sum(stops) / len(stops) < 200


def permutation_p(x, y, draw, count=99):
    of_x, of_y = (torch.exp(-0.5 * (t[:, None] - t[None]) ** 2) for t in (x, y))
    of_x, of_y = of_x - of_x.mean(0), of_y - of_y.mean(0)
    found = (of_x * of_y.T).sum()
    orders = [torch.randperm(len(x), generator=draw) for _ in range(count)]
    return (1 + sum(bool((of_x[o][:, o] * of_y.T).sum() >= found) for o in orders)) / (1 + count)


@pytest.mark.slow
def test_peeking_breaks_the_batch_test():
    """P265, accept: HSIC with permutations, looked at every 20 of 200 points: > 10 % false alarms."""
    draw = torch.Generator().manual_seed(40)
    alarms = 0
    for seed in range(100):
        x, y = correlated(200, 0.0, 40_000 + seed)
        alarms += any(permutation_p(x[:n], y[:n], draw) <= 0.05 for n in range(20, 201, 20))
    assert alarms > 10, alarms
