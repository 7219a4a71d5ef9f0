"""Batched semi-smooth Newton for Huber sums: many starts or many bootstrap weights at once.

The Huber loss of a small delta is nearly least absolute deviations: only the residuals inside
delta carry curvature. Newton on that curvature alone is fast near the end and lost at the
start; iteratively reweighted least squares is the reverse. Here the residuals outside keep a
share ``blend`` of their reweighting curvature, which fades with every accepted step and comes
back when a step is refused. Levenberg's damping does the rest.

With few rows and a delta far below their scatter the two can swing against each other for
hundreds of steps; what is not at rest then goes on with both set back, which frees it.

Where nearly every residual lies outside, a law's valley (floor against scale against exponent) is
flat and bent, and a straight step leaves its bottom before it has gone far: hundreds of small steps.
From the step ``STRAIGHT`` on, steps follow the bend (geodesic acceleration): one more look along the
step tells how the predictions curve, and the same system is solved once more for what undoes that.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Evaluate = Callable[[Array], tuple[Array, Array]]

CHUNK = 125  # problems solved side by side; more would leave the cache
TURNS = 4  # times `rounds` steps before a problem is given up where it is
STRAIGHT = 15  # steps before the bend of the valley is asked for: most descents are over by then
AHEAD = 0.1  # share of the step at which the bend is measured
NOUGHT = 1e-8  # residuals below this are rounding, not measurement


def huber(residual: Array, delta: float) -> Array:
    """Half the square inside ``delta``, a straight line outside; delta = inf is least squares."""
    size = np.abs(residual)
    inside = np.minimum(size, delta)
    return inside * (size - 0.5 * inside)


def rounding(count: int, delta: float) -> float:
    """The objective of ``count`` residuals that are nothing but rounding."""
    return count * float(huber(np.array(NOUGHT), delta))


def minimise(
    evaluate: Evaluate,
    start: Array,
    target: Array,
    *,
    group: NDArray[np.intp] | None = None,
    weights: Array | None = None,
    delta: float = np.inf,
    asymmetry: float = 1.0,
    free: NDArray[np.bool_] | None = None,
    rounds: int = 200,
    tolerance: float = 1e-9,
    caution: float = 1e-2,
) -> tuple[Array, Array]:
    """Minimise sum_i w_i huber(f_i(theta) - target_i) for every row of ``start`` (s, p).

    ``group`` (n,) says which of the values of ``evaluate`` (s, m) each target is held against, where
    many share one; without it they are one to one. ``weights`` is (n,) or (s, n). ``asymmetry``
    multiplies the weight of rows predicted too high. ``free`` (p,) marks the parameters that may move.
    Gives the ends (s, p) and their objectives (s,); a row stops when two accepted steps in a row gain
    less than ``tolerance`` of it. ``caution`` is the damping of the first step: small where the start is near
    the end.
    A row not at rest after ``rounds`` steps goes on with fresh damping, up to TURNS times.
    """
    ends, objectives = np.array(start, float), np.empty(len(start))
    weights = np.ones((1, len(target))) if weights is None else np.atleast_2d(weights)
    if group is not None:  # those that share a value stand side by side, to be summed in one go
        order = np.argsort(group, kind="stable")
        group, target, weights = group[order], target[order], weights[:, order]
    for first in range(0, len(start), CHUNK):
        part = slice(first, first + CHUNK)
        own = weights if len(weights) == 1 else weights[part]
        problem = _Problem(evaluate, target, group, own, delta, asymmetry, free)
        ends[part], objectives[part] = _descend(problem, ends[part], rounds, tolerance, caution)
    return ends, objectives


class _Problem:
    """The sum and its slopes for one chunk; ``keep`` narrows the weights to the rows still at work."""

    def __init__(
        self,
        evaluate: Evaluate,
        target: Array,
        group: NDArray[np.intp] | None,
        weights: Array,
        delta: float,
        asymmetry: float,
        free: NDArray[np.bool_] | None,
    ) -> None:
        self.evaluate, self.target, self.weights = evaluate, target, weights
        self.delta, self.asymmetry = delta, asymmetry
        self.group = group
        self.first = None if group is None else np.flatnonzero(np.diff(group, prepend=-1))
        self.free = slice(None) if free is None else np.flatnonzero(free)

    def keep(self, rows: NDArray[np.bool_]) -> None:
        if len(self.weights) > 1:
            self.weights = self.weights[rows]

    def look(self, theta: Array) -> tuple[Array, Array, Array]:
        """Objective (s,), residuals (s, n) and slopes (s, p, m)."""
        value, slopes = self.evaluate(theta)
        residual = (value if self.group is None else value[:, self.group]) - self.target
        total = np.einsum("sn,sn->s", self._weight(residual), huber(residual, self.delta))
        return np.where(np.isfinite(total), total, np.inf), residual, slopes

    def step(
        self, theta: Array, residual: Array, slopes: Array, damping: Array, blend: Array, *, bent: bool
    ) -> Array:
        """The damped Newton step (s, p), zero for parameters that are held; ``bent`` follows the valley."""
        slopes = slopes[:, self.free]
        weight = self._weight(residual)
        pull = weight * residual
        if np.isfinite(self.delta):
            share = self.delta / np.maximum(np.abs(residual), self.delta)  # 1 inside delta
            pull *= share
            weight = weight * np.where(share < 1.0, blend[:, None] * share, 1.0)
        pull, weight = self._gathered(pull), self._gathered(weight)
        gradient = np.matmul(slopes, pull[:, :, None])
        curvature = np.matmul(slopes * weight[:, None, :], slopes.transpose(0, 2, 1))
        diagonal = np.einsum("sii->si", curvature)  # a view: what is added here lands in `curvature`
        scale = diagonal.max(axis=1, keepdims=True) + 1e-300
        diagonal += damping[:, None] * diagonal + 1e-13 * scale
        moved = np.zeros_like(theta)
        moved[:, self.free] = -np.linalg.solve(curvature, gradient)[:, :, 0]
        if bent:
            here = residual + self.target if self.first is None else (residual + self.target)[:, self.first]
            ahead = self.evaluate(theta + AHEAD * moved)[0]
            straight = np.matmul(moved[:, None, self.free], slopes)[:, 0]
            bend = ((ahead - here) / AHEAD - straight) / AHEAD  # half the second derivative
            back = np.matmul(slopes, (weight * bend)[:, :, None])
            turn = -np.linalg.solve(curvature, back)[:, :, 0]
            moved[:, self.free] += np.where(np.isfinite(turn).all(axis=1, keepdims=True), turn, 0.0)
        return moved

    def _gathered(self, each: Array) -> Array:
        """Sums (s, m) of what belongs to one value."""
        return each if self.first is None else np.add.reduceat(each, self.first, axis=1)

    def _weight(self, residual: Array) -> Array:
        if self.asymmetry == 1.0:
            return self.weights
        return np.asarray(self.weights * np.where(residual > 0, self.asymmetry, 1.0))


def _descend(
    problem: _Problem, theta: Array, rounds: int, tolerance: float, caution: float
) -> tuple[Array, Array]:
    ends, best = theta.copy(), np.empty(len(theta))
    live = np.arange(len(theta))
    total, residual, slopes = problem.look(theta)
    idle, nought = np.zeros(len(live), int), rounding(len(problem.target), problem.delta)
    for turn in range(TURNS * rounds):
        if turn % rounds == 0:
            damping, blend = np.full(len(live), caution), np.ones(len(live))
        tried = theta + problem.step(theta, residual, slopes, damping, blend, bent=turn >= STRAIGHT)
        new_total, new_residual, new_slopes = problem.look(tried)
        good = new_total <= total
        small = total - new_total <= tolerance * total
        idle = np.where(good, np.where(small, idle + 1, 0), idle)
        if good.all():
            theta, total, residual, slopes = tried, new_total, new_residual, new_slopes
        else:
            theta[good], total[good] = tried[good], new_total[good]
            residual[good], slopes[good] = new_residual[good], new_slopes[good]
        damping = np.where(good, damping * 0.5, damping * 2.0)
        blend = np.where(good, blend * 0.25, np.minimum(1.0, blend * 3.0))
        rest = (idle < 2) & (damping < 1e10) & (total > nought)
        if rest.mean() < 0.75 or not rest.any():
            ends[live[~rest]], best[live[~rest]] = theta[~rest], total[~rest]
            live, theta, total = live[rest], theta[rest], total[rest]
            residual, slopes = residual[rest], slopes[rest]
            damping, blend, idle = damping[rest], blend[rest], idle[rest]
            problem.keep(rest)
            if not len(live):
                break
    ends[live], best[live] = theta, total
    return ends, best
