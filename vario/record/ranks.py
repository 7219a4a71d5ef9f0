"""What ranks that average their gradients have each read of their own examples, as one reading.

Each rank's number is right on its own and about a part of the examples. At a step where several ranks have
one, the joint reading is of all of them; a rank that was not due, or is lost, keeps nobody waiting.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from vario.record.stream import Values

__all__ = ["AVERAGED", "JOINED"]

AVERAGED = "gradient_parts/ranks"  # how many ranks the step's gradient is the mean of


def _mean(values: Values) -> Values:
    return np.asarray(np.nanmean(values, axis=0))


def _sum(values: Values) -> Values:
    return np.asarray(np.nansum(values, axis=0))


def _even(even: Values, norms: Values) -> Values:
    """The mean norm and the mean squared norm are each the mean over ranks, and divided last."""
    both = ~np.isnan(even) & ~np.isnan(norms)
    squares = np.where(both & (even > 0), norms**2 / np.where(even > 0, even, 1.0), np.nan)
    return np.asarray(np.nanmean(np.where(both, norms, np.nan), axis=0) ** 2 / np.nanmean(squares, axis=0))


def _quantiles(values: Values) -> Values:
    """Of all examples together, with as many between two quantiles of a rank as between any other two."""
    joint = np.empty(values.shape[1:])
    shares = np.linspace(0, 1, values.shape[2])
    for step in range(values.shape[1]):
        ranks = values[:, step][~np.isnan(values[:, step]).any(axis=1)]
        at = np.unique(ranks)
        ends = [np.mean([_share_below(at, of, side) for of in ranks], axis=0) for side in (0, -1)]
        joint[step] = np.interp(shares, np.stack(ends, axis=1).ravel(), at.repeat(2))
    return joint


def _share_below(at: Values, quantiles: Values, side: int) -> Values:
    """Where several quantiles are equal, up to the first (0) or the last (-1) of them."""
    kept, first, count = np.unique(quantiles, return_index=True, return_counts=True)
    place = first if side == 0 else first + count - 1
    return np.interp(at, kept, place / (len(quantiles) - 1), left=0.0, right=1.0)


# a series, what it is joined of, each as (ranks, steps[, width]) with NaN where a rank has no reading
JOINED: dict[str, tuple[tuple[str, ...], Callable[..., Values]]] = {
    **{
        name: ((name,), _mean)
        for name in (
            *("gradient_noise/signal", "gradient_noise/noise", "gradient_noise/seen_share"),
            *("gradient_parts/signal", "gradient_parts/noise", "example_gradients/mean_norm"),
        )
    },
    "example_gradients/even": (("example_gradients/even", "example_gradients/mean_norm"), _even),
    "example_gradients/looked_at": (("example_gradients/looked_at",), _sum),
    "example_gradients/norm_quantiles": (("example_gradients/norm_quantiles",), _quantiles),
}
