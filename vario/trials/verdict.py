"""The verdict on treatments: helps, hurts, equivalent, or undecided and how many seeds more.

How it is decided: one interval of the mean paired difference. Beyond zero on one side: *helps* or *hurts*.
Inside the margin on both sides: *equivalent*, also where it lies beyond zero, as the margin is the smallest
difference that matters to the user. Else *undecided*. While one may look after every pair (`peeking`, the
default) the interval is `sequential`'s; for a number of pairs fixed before the first run it is Student's.
Several treatments share the error by Holm's steps, and the interval shown is the one that decided.

Failed runs have no value. A treatment that fails in more pairs than the baseline is never said to help, and
hurts where the failures alone prove it (and the other way round), at a tenth of the error.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from vario.nouns import VarioError, Verdict
from vario.trials.paired import Paired
from vario.trials.sequential import critical_t, failures_e_value

CARD = {
    "papers": ("P032", "P129"),
    "checked": "closed form; calibration by simulation",
    "changed": "P032, P129: only what they warn of is taken, the optimism of a winner",
}

POWER = 0.8  # the chance to decide that `more_seeds` is meant to give
MOST_SEEDS = 10_000  # where more are needed, this is said
FAILURES_SHARE = 0.1
DRAWS = 4_000

Word = Literal["helps", "hurts", "equivalent", "undecided"]


def judge(
    baseline: ArrayLike,
    treated: Mapping[str, ArrayLike],
    *,
    higher_is_better: bool = False,
    margin: float | None = None,
    alpha: float = 0.05,
    peeking: bool = True,
    costs: Mapping[str, tuple[float, float, float]] | None = None,
) -> list[Verdict]:
    """A verdict per treatment, in the order given; values are one per seed, paired by position.

    `margin` is the largest difference, in the unit of the metric, that does not matter to the user.
    `alpha` bounds the chance of a single wrong "helps" or "hurts" among all treatments together.
    `costs`: how many times as long a step takes, with the ends of its interval.
    """
    _check(margin, alpha)
    pairs = {name: Paired.of(baseline, values) for name, values in treated.items()}
    p = {name: _p(paired, peeking) for name, paired in pairs.items()}
    verdicts, adjusted, share = {}, 0.0, alpha
    for place, name in enumerate(sorted(pairs, key=lambda name: p[name])):
        left = len(pairs) - place
        if adjusted <= alpha:  # Holm: after the first that cannot be told, the others get no more than it got
            share = alpha / left
        adjusted = max(adjusted, min(1.0, left * p[name]))
        word = _word(pairs[name], higher_is_better, margin, share, peeking)
        verdicts[name] = _verdict(
            name,
            pairs[name],
            word=word,
            p=adjusted,
            higher_is_better=higher_is_better,
            margin=margin,
            alpha=share,
            peeking=peeking,
            cost=(costs or {}).get(name, (float("nan"), 0.0, float("inf"))),
        )
    return [verdicts[name] for name in treated]


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values adjusted for being several, in the order given.

    >>> [round(p, 3) for p in holm([0.01, 0.04, 0.03])]
    [0.03, 0.06, 0.06]
    """
    adjusted, largest = [0.0] * len(p_values), 0.0
    for place, index in enumerate(np.argsort(p_values, kind="stable")):
        largest = max(largest, min(1.0, (len(p_values) - place) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def more_seeds(
    paired: Paired, *, margin: float | None = None, alpha: float = 0.05, peeking: bool = True
) -> int:
    """Further pairs after which a decision is likely (80 %), if mean and spread are as observed.

    A guess from a guess: with few pairs it can be off by several times. 10,000 stands for "that or more".
    """
    if paired.pairs < 2 or paired.spread == 0:
        enough = np.flatnonzero(np.isfinite(critical_t(np.arange(100), alpha)))
        return max(1, int(enough[0]) - paired.pairs)
    effect = abs(paired.mean) / paired.spread
    room = 0.0 if margin is None else margin / paired.spread - effect

    def decides(n: int) -> bool:
        apart = effect * np.sqrt(n) - _critical(n, alpha, peeking) >= special.ndtri(POWER)
        tail = _critical(n, alpha if peeking else 2 * alpha, peeking)
        return bool(apart or room * np.sqrt(n) - tail >= special.ndtri((1 + POWER) / 2))

    further = range(1, MOST_SEEDS)  # what more pairs decide, still more decide: a search by halves
    return 1 + bisect_left(further, True, key=lambda more: decides(paired.pairs + more))


def optimism(scores: Mapping[str, ArrayLike], *, higher_is_better: bool = False) -> float:
    """How much better than its true mean the winner's mean looks, for having been chosen by it.

    `scores` holds one value per seed and treatment, the same seeds for all. Seeds are resampled, the
    winner is chosen anew, and its resampled mean is held against its own mean over all seeds.
    """
    table = np.array([np.asarray(values, float) for values in scores.values()])
    if table.ndim != 2 or not np.isfinite(table).all() or table.shape[1] < 2:
        raise VarioError(
            "the optimism of a winner needs two or more seeds, the same for all, and finite scores."
        )
    sign = 1.0 if higher_is_better else -1.0
    seeds = table.shape[1]
    counts = np.random.default_rng(0).multinomial(seeds, np.full(seeds, 1 / seeds), size=DRAWS)
    means = sign * counts @ table.T / seeds  # (draws, treatments)
    winners = means.argmax(axis=1)
    gained = means[np.arange(DRAWS), winners] - (sign * table.mean(axis=1))[winners]
    # Resampled means spread by (seeds - 1) / seeds of what new seeds would.
    return float(gained.mean() * np.sqrt(seeds / (seeds - 1)))


def _word(paired: Paired, higher_is_better: bool, margin: float | None, alpha: float, peeking: bool) -> Word:
    gain = 1.0 if higher_is_better else -1.0
    lost_baseline, lost_treated = paired.failures
    if lost_baseline != lost_treated and failures_e_value(lost_treated, lost_baseline) >= 1 / (
        FAILURES_SHARE * alpha
    ):
        return "hurts" if lost_treated > lost_baseline else "helps"
    if paired.pairs >= 2 and not paired.differences.any() and lost_baseline == lost_treated:
        return "equivalent"
    if margin is not None and lost_baseline == lost_treated:
        # Two one-sided tests, each at alpha; the interval for any time is not made of two such halves.
        low, high = paired.anytime_interval(alpha) if peeking else paired.interval(2 * alpha)
        if -margin < low and high < margin and _spread_is_known(paired, alpha, peeking):
            return "equivalent"
    low, high = paired.anytime_interval(alpha) if peeking else paired.interval(alpha)
    if not (low > 0 or high < 0) or not _spread_is_known(paired, alpha, peeking):
        return "undecided"
    word: Word = "helps" if paired.mean * gain > 0 else "hurts"
    worse = lost_treated > lost_baseline if word == "helps" else lost_baseline > lost_treated
    return "undecided" if worse else word


def _spread_is_known(paired: Paired, alpha: float, peeking: bool) -> bool:
    """Equal differences leave Student's interval without width after two pairs; then signs must decide."""
    return paired.spread > 0 or peeking or paired.p_sign_flip <= alpha


def _verdict(
    name: str,
    paired: Paired,
    *,
    word: Word,
    p: float,
    higher_is_better: bool,
    margin: float | None,
    alpha: float,
    peeking: bool,
    cost: tuple[float, float, float],
) -> Verdict:
    low, high = paired.anytime_interval(alpha) if peeking else paired.interval(alpha)
    above = paired.probability_above
    exactly_zero = paired.pairs >= 2 and not paired.differences.any()
    return Verdict(
        treatment=name,
        verdict=word,
        difference=(0.0, 0.0, 0.0) if exactly_zero else (paired.mean, low, high),
        p=p,
        probability=above if higher_is_better else 1 - above,
        pairs=paired.pairs,
        more_seeds=more_seeds(paired, margin=margin, alpha=alpha, peeking=peeking)
        if word == "undecided"
        else 0,
        cost=cost[0],
        cost_interval=cost[1:],
    )


def _p(paired: Paired, peeking: bool) -> float:
    if peeking:
        return paired.p_anytime
    return paired.p_t if paired.spread > 0 else paired.p_sign_flip


def _critical(pairs: int, alpha: float, peeking: bool) -> float:
    return float(critical_t(pairs, alpha) if peeking else special.stdtrit(pairs - 1, 1 - alpha / 2))


def _check(margin: float | None, alpha: float) -> None:
    if margin is not None and not margin > 0:
        raise VarioError(f"a margin is a difference above 0 in the unit of the metric; got {margin}.")
    if not 0 < alpha < 0.5:
        raise VarioError(f"alpha is the share of wrong verdicts, between 0 and 0.5; got {alpha}.")
