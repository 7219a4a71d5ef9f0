"""What pairs of runs say of a treatment: differences, their intervals, and p-values.

A pair is the baseline and the treated run of one seed. Differences are treated minus baseline in the unit
of the metric. Pairs in which a run failed (its value is not finite) are counted and not averaged.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from vario.nouns import VarioError
from vario.trials.sequential import critical_t, e_value, signs_alike

EXACT_PAIRS = 14  # up to here every sign pattern is tried: 16,384 of them
FLIPS = 20_000
RESAMPLES = 4_000
FEWEST_TO_RESAMPLE = 6  # fewer give too many resamples of one single difference

Array = NDArray[np.float64]
Interval = tuple[float, float]


@dataclass(frozen=True, eq=False)
class Paired:
    """Values of the metric, baseline and treated, one entry per seed, in the order of the runs."""

    baseline: Array
    treated: Array

    @classmethod
    def of(cls, baseline: ArrayLike, treated: ArrayLike) -> Paired:
        """Checks that the two go together."""
        one, other = np.asarray(baseline, float), np.asarray(treated, float)
        if one.ndim != 1 or one.shape != other.shape:
            raise VarioError(
                f"a comparison needs one value per seed in both arms; got {one.shape} for the baseline and "
                f"{other.shape} for the treatment. Leave out seeds that only one of them ran."
            )
        return cls(one, other)

    @cached_property
    def differences(self) -> Array:
        """Treated minus baseline, of the pairs in which both runs gave a value."""
        both = np.isfinite(self.baseline) & np.isfinite(self.treated)
        return self.treated[both] - self.baseline[both]

    @property
    def pairs(self) -> int:
        """How many differences there are."""
        return len(self.differences)

    @property
    def failures(self) -> tuple[int, int]:
        """Pairs in which only the baseline failed, and only the treated run."""
        lost = ~np.isfinite(self.baseline), ~np.isfinite(self.treated)
        return int((lost[0] & ~lost[1]).sum()), int((lost[1] & ~lost[0]).sum())

    @property
    def mean(self) -> float:
        """The mean difference; NaN without pairs."""
        return float(self.differences.mean()) if self.pairs else float("nan")

    @cached_property
    def spread(self) -> float:
        """Standard deviation of the differences; exactly 0 where all are the same, NaN below two pairs."""
        d = self.differences
        if len(d) < 2:
            return float("nan")
        return 0.0 if (d == d[0]).all() else float(d.std(ddof=1))

    @property
    def standard_error(self) -> float:
        """Of the mean difference."""
        return self.spread / float(np.sqrt(self.pairs)) if self.pairs else float("nan")

    @property
    def t(self) -> float:
        """Mean over standard error; 0 where all differences are exactly 0."""
        if self.pairs < 2 or self.mean == 0:
            return 0.0
        return float(np.copysign(np.inf, self.mean)) if self.spread == 0 else self.mean / self.standard_error

    def interval(self, alpha: float = 0.05) -> Interval:
        """Student's interval of the mean difference: for a number of pairs that was fixed in advance."""
        return self._around(
            float(special.stdtrit(self.pairs - 1, 1 - alpha / 2)) if self.pairs > 1 else np.inf
        )

    def anytime_interval(self, alpha: float = 0.05) -> Interval:
        """The interval that holds however often one has looked; see `sequential`."""
        return self._around(float(critical_t(self.pairs, alpha)))

    def bootstrap_interval(self, alpha: float = 0.05) -> Interval:
        """Bootstrap-t: as Student's, its quantiles taken from resampled pairs, so that it follows skewness.

        Below six pairs, and where all differences are equal, it is Student's.
        """
        d = self.differences
        if len(d) < FEWEST_TO_RESAMPLE or self.spread == 0:
            return self.interval(alpha)
        picked = d[np.random.default_rng(0).integers(len(d), size=(RESAMPLES, len(d)))]
        errors = picked.std(axis=1, ddof=1) / np.sqrt(len(d))
        with np.errstate(divide="ignore", invalid="ignore"):
            t = (picked.mean(axis=1) - self.mean) / errors
        low, high = np.nanquantile(t, np.array([alpha / 2, 1 - alpha / 2])).tolist()
        return self.mean - high * self.standard_error, self.mean - low * self.standard_error

    @property
    def p_t(self) -> float:
        """Two-sided, Student's."""
        return float(2 * special.stdtr(self.pairs - 1, -abs(self.t))) if self.pairs > 1 else 1.0

    @property
    def p_anytime(self) -> float:
        """Two-sided, valid however often one has looked."""
        if self.pairs < 2:
            return 1.0
        return min(1.0, max(1 / float(e_value(self.t, self.pairs)), float(signs_alike(self.pairs))))

    @cached_property
    def p_sign_flip(self) -> float:
        """Two-sided, by flipping signs: exact where nothing is changed, whatever the distribution."""
        d = self.differences
        if len(d) == 0:
            return 1.0
        if len(d) <= EXACT_PAIRS:
            patterns = (np.arange(2 ** len(d))[:, None] >> np.arange(len(d)) & 1) * 2.0 - 1
            extra = 0
        else:
            patterns = np.random.default_rng(0).integers(0, 2, (FLIPS, len(d))) * 2.0 - 1
            extra = 1  # the pattern that was observed
        # Sums of the same numbers in another order differ in their last digits: that is no difference.
        reached = np.abs(patterns @ d) >= abs(d.sum()) * (1 - 1e-9)
        return float((reached.sum() + extra) / (len(patterns) + extra))

    @property
    def p_sign(self) -> float:
        """Two-sided, by counting which arm won; ties say nothing."""
        above, below = int((self.differences > 0).sum()), int((self.differences < 0).sum())
        return (
            min(1.0, 2 * float(special.bdtr(min(above, below), above + below, 0.5))) if above + below else 1.0
        )

    @property
    def probability_above(self) -> float:
        """That the true mean difference is above 0, before the data all means and scales being alike."""
        if self.pairs < 2 or self.t == 0:
            return 0.5
        return float(special.stdtr(self.pairs - 1, self.t))

    @property
    def variance_removed(self) -> float:
        """Share of the variance of two separate groups that pairing took away; NaN where there is none."""
        both = np.isfinite(self.baseline) & np.isfinite(self.treated)
        if both.sum() < 2:
            return float("nan")
        apart = float(self.baseline[both].var(ddof=1) + self.treated[both].var(ddof=1))
        return 1 - self.spread**2 / apart if apart > 0 else float("nan")

    @property
    def variance_removed_interval(self) -> Interval:
        """95 %, by Fisher's z of the correlation between the arms; open with fewer than 4 pairs."""
        if self.pairs < 4:
            return -np.inf, np.inf
        both = np.isfinite(self.baseline) & np.isfinite(self.treated)
        one, other = self.baseline[both].std(), self.treated[both].std()
        if not one * other > 0:
            return -np.inf, np.inf
        # The share is the correlation times what unequal spreads leave of it.
        left = 2 * one * other / (one**2 + other**2)
        correlation = np.clip(np.corrcoef(self.baseline[both], self.treated[both])[0, 1], -1, 1)
        with np.errstate(divide="ignore"):  # the same values in both arms
            ends = np.tanh(np.arctanh(correlation) + np.array([-1.96, 1.96]) / np.sqrt(self.pairs - 3))
        return float(left * ends[0]), float(left * ends[1])

    def _around(self, critical: float) -> Interval:
        if not self.pairs:
            return -np.inf, np.inf
        reach = np.inf if not np.isfinite(critical) else critical * self.standard_error
        return self.mean - reach, self.mean + reach
