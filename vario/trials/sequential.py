"""A t-test that may be looked at after every pair, as often as one likes.

Of all alternatives the effect size (mean over standard deviation) is drawn from a normal distribution of
variance `SPREAD`, and the unknown standard deviation from Haar's scale-invariant measure. The ratio of the
t statistic's density under that mixture to its density under the null is a test martingale: its mean is 1
at every sample size, so by Ville's inequality the chance that it *ever* exceeds 1/alpha is at most alpha.
Solved for the mean, it is an interval that holds at all sample sizes at once.

It is exact for normal differences. Where the treatment changes nothing, the two arms of a pair can be
exchanged, hence the differences are symmetric; heavy tails make the t statistic smaller, not larger.
Values on a coarse lattice (an accuracy over a hundred examples) can tie: five equal differences have a t of
infinity, and a chance of 1 in 16. So nothing is decided before so many pairs that even all signs alike are
rarer than alpha: six at 5 %.

Bounded or sub-Gaussian intervals were not taken: a loss has no bound that is known before the runs.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

CARD = {
    "papers": (),
    "checked": "closed form (Wang & Ramdas 2023, after Lai 1976), by integration and by simulation",
    "changed": "nothing; the variance of the mixture is fixed at 1 in advance",
}

SPREAD = 1.0  # effects of about one standard deviation of the pairs are the ones worth ten to forty seeds

Array = NDArray[np.float64]


def e_value(t: ArrayLike, pairs: ArrayLike) -> Array:
    """Evidence against a mean of zero: how many times the wager on "no effect" has multiplied its stake.

    `t` is the t statistic of `pairs` >= 2 differences; it may be infinite.
    """
    n = np.asarray(pairs, float)
    a = 1 + n * SPREAD
    x = np.square(np.asarray(t, float)) / (n - 1)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        ratio = np.where(np.isinf(x), a, (1 + x) / (1 + x / a))
        return np.asarray(np.exp(0.5 * n * np.log(ratio) - 0.5 * np.log(a)))


def critical_t(pairs: ArrayLike, alpha: float) -> Array:
    """The t statistic at which `e_value` reaches 1/alpha; infinite where none can as yet."""
    n = np.asarray(pairs, float)
    a = 1 + n * SPREAD
    ratio = np.exp((np.log(a) - 2 * np.log(alpha)) / np.maximum(n, 1))
    possible = (n >= 2) & (ratio < a) & (signs_alike(n) <= alpha)
    with np.errstate(divide="ignore", invalid="ignore"):
        x = (ratio - 1) / (1 - ratio / a)
    return np.where(possible, np.sqrt(np.maximum(x, 0) * (n - 1)), np.inf)


def signs_alike(pairs: ArrayLike) -> Array:
    """The chance that all of `pairs` >= 1 differences fall on one side where nothing is changed."""
    return np.asarray(2.0 ** (1 - np.asarray(pairs, float)))


def failures_e_value(only_treated: int, only_baseline: int) -> float:
    """Evidence that failures (crashed, diverged) do not fall on both arms alike, valid at every look.

    Of the pairs in which exactly one arm failed, each is a fair coin under the null; the alternative is
    a coin of any bias, all biases being equally likely.
    """
    tosses = only_treated + only_baseline
    log_choose = sum(np.log((tosses - k) / (k + 1)) for k in range(only_treated))
    return float(np.exp(tosses * np.log(2) - np.log(tosses + 1) - log_choose))
