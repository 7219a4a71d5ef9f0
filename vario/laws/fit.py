"""The only fitter: one law, one table of runs, one robust objective, and how sure the end is.

Objective: the sum over rows of the Huber loss of the residuals, in logs for laws with a log
link. ``delta`` is 1e-3 (the protocol of the published fits), "auto" (1.345 robust standard
deviations of the residuals of a least squares fit) or inf (least squares). Every fit
starts from all of the law's starting points, on centred logs, and reports how many of them
ended at the best objective, and what the two neighbours in delta would have said.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from vario.laws._newton import Array, minimise, rounding

NEAR = 1e-7  # share of its objective that the last step of a refit gains: Newton's next would gain its square
CLOSE = 1e-4  # damping of the first step of a refit, which starts at the end of the fit itself
AGREE = 1e-6  # ends whose objectives differ by less than this share are the same end


@runtime_checkable
class Law(Protocol):
    """What a family must offer. Inputs reach ``evaluate`` as centred logs, one row per input.

    Inputs that share a unit are centred together, so that their ratio keeps its meaning; an input
    whose unit is "" is not centred.
    ``constants`` are the log parameters whose profile may be open on one side; ``link`` is "log" or
    "identity".
    """

    @property
    def id(self) -> str: ...
    @property
    def inputs(self) -> tuple[str, ...]: ...
    @property
    def units(self) -> tuple[str, ...]: ...
    @property
    def output(self) -> str: ...
    @property
    def link(self) -> str: ...
    @property
    def names(self) -> tuple[str, ...]: ...
    @property
    def constants(self) -> tuple[str, ...]: ...
    def evaluate(self, theta: Array, x: Array) -> tuple[Array, Array]: ...
    def raw(self, theta: Array, centre: Array, level: float) -> Array: ...
    def starts(self) -> Array: ...
    def derived(self, theta: Array) -> Mapping[str, Array]: ...


@dataclass(frozen=True)
class Fit:
    """A fitted law in the user's units, with what is needed to fit it again."""

    law: Law
    theta: Array  # (p,) in the user's units
    delta: float
    objective: float
    agreeing: int
    tried: int
    x: Array = field(repr=False)  # (k, n) logs of the inputs
    y: Array = field(repr=False)  # (n,) output, log where the link is log
    weights: Array = field(repr=False)
    centre: Array = field(repr=False)
    level: float = 0.0
    centred: Array = field(default_factory=lambda: np.empty(0), repr=False)
    asymmetry: float = 1.0

    @property
    def residuals(self) -> Array:
        """Prediction minus measurement, in logs where the link is log."""
        return np.asarray(self.law.evaluate(self.theta[None], self.x)[0][0] - self.y)

    def predict(self, at: Mapping[str, float | Array]) -> Array:
        """The law at new inputs, in the user's units."""
        predicted: Array = predict(self.law, self.theta[None], at)[0]
        return predicted

    def refit(self, *, weights: Array | None = None, delta: float | None = None) -> tuple[Array, Array]:
        """Ends (s, p) in the user's units and objectives (s,) for other weights (s, n) or another delta."""
        weights = self.weights[None] if weights is None else weights
        start = np.repeat(self.centred[None], len(weights), axis=0)
        inputs, group = distinct(self.x - self.centre[:, None])
        ends, totals = minimise(
            lambda theta: self.law.evaluate(theta, inputs),
            start,
            self.y - self.level,
            group=group,
            weights=weights,
            delta=self.delta if delta is None else delta,
            asymmetry=self.asymmetry,
            tolerance=NEAR,
            caution=CLOSE,
        )
        return self.law.raw(ends, self.centre, self.level), totals


def fit(
    law: Law,
    x: Mapping[str, Sequence[float] | Array],
    y: Sequence[float] | Array,
    *,
    delta: float | str = 1e-3,
    weights: Array | None = None,
    asymmetry: float = 1.0,
) -> Fit:
    """Fit ``law`` to inputs ``x`` (one array per name of ``law.inputs``) and outputs ``y``."""
    logs, target = as_logs(law, x, y)
    weights = np.ones(len(target)) if weights is None else np.asarray(weights, float)
    centre = centres(law, logs)
    level = float(np.average(target, weights=weights)) if law.link == "log" and any(law.units) else 0.0
    starts, goal = law.starts(), target - level
    inputs, group = distinct(logs - centre[:, None])

    def ends_at(width: float, start: Array) -> tuple[Array, Array]:
        return minimise(
            lambda theta: law.evaluate(theta, inputs), start, goal, group=group, weights=weights, delta=width,
            asymmetry=asymmetry,
        )  # fmt: skip

    if delta == "auto":
        ends, totals = ends_at(np.inf, starts)
        delta = auto_delta(law.evaluate(ends[[totals.argmin()]], logs - centre[:, None])[0][0] - goal)
    width = float(delta)
    if not width > 0:
        raise ValueError(f"delta must be positive, 'auto' or inf; got {delta}")
    ends, totals = ends_at(width, starts)
    best = int(totals.argmin())
    final, total = ends_at(width, ends[[best]])  # a second run from the end polishes it
    same = max(AGREE * float(total[0]), rounding(len(goal), width))
    agreeing = int((totals <= total[0] + same).sum())
    return Fit(
        law=law,
        theta=law.raw(final, centre, level)[0],
        delta=width,
        objective=float(total[0]),
        agreeing=agreeing,
        tried=len(starts),
        x=logs,
        y=target,
        weights=weights,
        centre=centre,
        level=level,
        centred=final[0],
        asymmetry=asymmetry,
    )


def predict(law: Law, theta: Array, at: Mapping[str, float | Array]) -> Array:
    """The law for parameters (s, p) in the user's units at inputs ``at``: (s, n)."""
    logs = np.log(
        np.stack(np.broadcast_arrays(*(np.atleast_1d(at[name]).astype(float) for name in law.inputs)))
    )
    value = law.evaluate(np.atleast_2d(theta), logs)[0]
    with np.errstate(over="ignore"):  # a draw may go anywhere far out: infinity is what it says there
        return np.asarray(np.exp(value) if law.link == "log" else value)


def neighbours(done: Fit) -> dict[float, tuple[float, Array]]:
    """What a ten times smaller and a ten times larger delta would have said: objective and theta."""
    around = (
        (1e-3, auto_delta(done.residuals)) if np.isinf(done.delta) else (done.delta / 10, done.delta * 10)
    )
    said = {}
    for width in around:
        theta, total = done.refit(delta=width)
        said[float(width)] = (float(total[0]), theta[0])
    return said


def profile(done: Fit, name: str, values: Sequence[float] | Array) -> Array:
    """The best objective with parameter ``name`` (user's units) held at each of ``values``."""
    place = done.law.names.index(name)
    shift = done.theta[place] - done.centred[place]  # the same for every value: units only add to logs
    start = np.repeat(done.centred[None], len(values), axis=0)
    start[:, place] = np.asarray(values, float) - shift
    free = np.arange(len(done.law.names)) != place
    inputs, group = distinct(done.x - done.centre[:, None])
    return minimise(
        lambda theta: done.law.evaluate(theta, inputs),
        start,
        done.y - done.level,
        group=group,
        weights=done.weights,
        delta=done.delta,
        asymmetry=done.asymmetry,
        free=free,
    )[1]


def distinct(x: Array) -> tuple[Array, NDArray[np.intp] | None]:
    """The inputs (k, m) that differ, and which of them each row has; None where most rows differ.

    A sweep of rates repeats its sizes a hundred times: the law need not be worked out for each.
    """
    columns, group = np.unique(x, axis=1, return_inverse=True)
    return (columns, group.reshape(-1)) if 2 * columns.shape[1] <= x.shape[1] else (x, None)


def auto_delta(residuals: Array) -> float:
    """1.345 robust standard deviations: 95 % efficient where the noise is normal after all."""
    spread = 1.4826 * float(np.median(np.abs(residuals - np.median(residuals))))
    return max(1.345 * spread, 1e-12)


def centres(law: Law, logs: Array) -> Array:
    """Mean log of each input; inputs that share a unit share a centre."""
    mean = {unit: logs[[own == unit for own in law.units]].mean() for unit in law.units}
    return np.array([mean[unit] if unit else 0.0 for unit in law.units])


def as_logs(
    law: Law, x: Mapping[str, Sequence[float] | Array], y: Sequence[float] | Array
) -> tuple[Array, Array]:
    """Inputs as logs (k, n) and the output, log where the law's link is log; refuses what has no log."""
    target = np.asarray(y, float)
    columns = {name: np.asarray(x[name], float) for name in law.inputs}
    columns[law.output] = target
    for name, column in columns.items():
        if column.shape != target.shape:
            raise ValueError(f"{name} has {column.shape[0]} rows but {law.output} has {len(target)}")
        need_positive = name != law.output or law.link == "log"
        bad = ~np.isfinite(column) | ((column <= 0) if need_positive else False)
        if bad.any():
            row = int(np.argmax(bad))
            raise ValueError(f"{name} is {column[row]} in row {row}; {law.id} needs positive finite numbers")
    logs = np.log(np.stack([columns[name] for name in law.inputs]))
    return logs, np.log(target) if law.link == "log" else target


@dataclass(frozen=True)
class Projection:
    """A least squares fit that is linear in all but one number, and where its residuals stand."""

    coefficients: Array
    shape: float  # the number that is not linear
    objective: float
    at_bound: bool


def project(
    columns: Callable[[float], Array], y: Array, grid: Array, *, weights: Array | None = None
) -> Projection:
    """Variable projection: least squares in y, every coefficient exact for each value on ``grid``.

    The best grid point is refined by golden section; ``at_bound`` says that it lay at an end.
    """
    root = np.ones(len(y)) if weights is None else np.sqrt(weights)

    def solve(shape: float) -> tuple[float, Array]:
        table = columns(shape)
        scale = np.abs(table).max(axis=0) + 1e-300
        answer = np.linalg.lstsq(table / scale * root[:, None], y * root, rcond=None)[0] / scale
        return 0.5 * float((weights_of * (y - table @ answer) ** 2).sum()), answer

    weights_of = root**2
    totals = [solve(float(value))[0] for value in grid]
    best = int(np.argmin(totals))
    low, high = float(grid[max(best - 1, 0)]), float(grid[min(best + 1, len(grid) - 1)])
    golden = (np.sqrt(5.0) - 1.0) / 2.0
    while high - low > 1e-12 * (abs(high) + 1.0):
        left, right = high - golden * (high - low), low + golden * (high - low)
        low, high = (low, right) if solve(left)[0] < solve(right)[0] else (left, high)
    total, answer = solve(0.5 * (low + high))
    return Projection(answer, 0.5 * (low + high), total, best in (0, len(grid) - 1))
