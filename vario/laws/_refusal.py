"""What a table of runs cannot tell: refusals before a fit, cautions after it, each with its reason.

A fit that cannot be identified is worse than none: where model sizes span a factor of 1.003,
plain least squares returns an exponent of 17 without complaint. So the design of the runs is
judged before the fit, and the fit before it is shown.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from vario.laws._form import NO_FLOOR, floor_share, of_sizes, straight_here
from vario.laws._newton import Array
from vario.laws._table import GAP
from vario.laws._uncertainty import Uncertainty, noise_of
from vario.laws.fit import Fit, Law, fit, neighbours, profile

SPAN = 3.0  # an input must vary by this factor for its exponent to mean anything
LEVELS = 3  # a floor needs three distinct sizes: two points have a line, not a curve
CORRELATION = 0.97  # log inputs beyond this are one input
SPARE = 3  # rows beyond the number of parameters
UNDER_TRAINED = 5.0  # tokens per parameter below which loss is far from any frontier
OUTLIER = 10.0  # robust standard deviations
RISING = 0.5  # correlation of log loss with log size: a loss falls
FEW_BLOCKS = 1.5  # Student's t over the normal: three blocks or fewer beyond the parameters


FEWER = (
    "Or fit a law of one input, --law power (5 rows) or power-floor (6) with --columns x=COLUMN, a size or "
    "the compute as 6*N*D"
)


@dataclass(frozen=True)
class Caution:
    """A permanent id and a sentence with the numbers of this fit."""

    id: str
    text: str


def refusal(law: Law, logs: Array) -> str | None:
    """Why ``law`` cannot be fitted to inputs with these logs (k, n), or None."""
    count, least = logs.shape[1], len(law.names) + SPARE
    if count < least:
        fewer = f". {FEWER}" if len(law.inputs) > 1 else ""
        return (
            f"{count} rows; {law.id} has {len(law.names)} parameters and needs at least {least} rows{fewer}"
        )
    for name, row in zip(law.inputs, logs, strict=True):
        span = float(np.exp(np.ptp(row)))
        if span < SPAN * (1.0 - 1e-9):  # a factor of three in whatever unit
            return (
                f"{name} spans a factor of {span:.3g} over {count} rows; its exponent needs "
                f"{SPAN:g} or more. "
                f"Add runs at other values of {name}" + (f". {FEWER}" if len(law.inputs) > 1 else "")
            )
        levels = len(np.unique(np.round(row / 0.02)))
        if levels < LEVELS:
            return (
                f"{name} has {levels} distinct levels; a floor cannot be told from a power "
                f"with fewer than {LEVELS}"
            )
    for (first, a), (second, b) in combinations(zip(law.inputs, logs, strict=True), 2):
        together = float(np.corrcoef(a, b)[0, 1])
        if abs(together) > CORRELATION:
            return (
                f"log {first} and log {second} are correlated {together:+.3f}: the runs lie on "
                f"one line, so their "
                f"exponents cannot be told apart. Add runs off that line, or fit `power-floor` "
                f"on compute alone"
            )
    return None


def cautions(
    done: Fit, known: Uncertainty | None = None, rows: NDArray[np.intp] | None = None
) -> list[Caution]:
    """Everything that a reader of this fit should know, worst first; ``rows`` are numbers in the file."""
    numbers = np.arange(1, len(done.y) + 1) if rows is None else rows
    found = [*unit_slips(done), *_ends(done), *_starts(done), *_one_sided(done), *_outliers(done, numbers)]
    found += _under_trained(done) + _scattered(done)
    if known is not None:
        found += _delta(done, known)
        if not len(known.errors):
            text = (
                f"{len(done.y)} rows are too few to look back: no earlier forecast could check this interval"
            )
            found.append(Caution("unchecked-forecast", text))
        if known.kind.startswith("blocks") and known.stretch > FEW_BLOCKS:
            text = (
                f"so few blocks make the interval {known.stretch:.1f} times as wide as many would: more runs "
                f"narrow it, more checkpoints of the same runs do not"
            )
            found.append(Caution("few-blocks", text))
    return found + _curving(done)


def unit_slips(done: Fit) -> list[Caution]:
    """Sizes that look like millions or billions: exponents do not care, tokens per parameter do."""
    slips = _size_slips(done.law, done.x)
    told = (
        "; scale it in --columns (such as N=params*1e6): exponents and objective keep, A, B and tokens "
        "per parameter do not"
    )
    found = [Caution("unit-slip", text + told) for text in slips]
    for name, row in zip(done.law.inputs, done.x, strict=True):
        order = np.sort(row)
        at = int(np.argmax(np.diff(order)))
        if order[at + 1] - order[at] > np.log(GAP):
            text = (
                f"{name} has no value between {np.exp(order[at]):.4g} and {np.exp(order[at + 1]):.4g}: "
                f"one part of the column may be in another unit"
            )
            found.append(Caution("unit-slip", text))
    if done.law.output == "loss" and np.corrcoef(done.x.sum(axis=0), done.y)[0, 1] > RISING:
        text = "loss rises with the size of the runs, which reads like an accuracy"
        found.append(Caution("rising-loss", text + "; fit the error (loss=1-accuracy, or 100-percent)"))
    largest_loss = float(np.exp(done.y.max())) if done.law.link == "log" else 0.0
    if done.law.output == "loss" and largest_loss > 20.0:
        text = f"the largest loss is {largest_loss:.4g}, which reads like a perplexity"
        percent = "; leave it where it is an error in percent" if largest_loss <= 100.0 else ""
        found.append(Caution("unit-slip", text + f"; fit its log (loss=log(ppl)){percent}"))
    return found


def _size_slips(law: Law, logs: Array) -> list[str]:
    middle = {unit: float(np.exp(np.median(row))) for unit, row in zip(law.units, logs, strict=True)}
    largest = {unit: float(np.exp(row.max())) for unit, row in zip(law.units, logs, strict=True)}
    names = dict(zip(law.units, law.inputs, strict=True))
    slips = []
    for unit, least in (("parameters", 2e4), ("tokens", 1e5)):
        if unit in largest and largest[unit] < least:
            slips.append(
                f"{names[unit]} ({unit}) is at most {largest[unit]:.4g}, which reads like "
                f"thousands, millions or billions"
            )
    if not slips and {"parameters", "tokens"} <= set(middle):
        ratio = middle["tokens"] / middle["parameters"]
        if not 1e-2 <= ratio <= 2e4:
            slips.append(
                f"the median run has {ratio:.3g} tokens per parameter, so one of the two columns "
                f"is in another unit"
            )
    return slips


def well_trained(law: Law, logs: Array) -> NDArray[np.bool_]:
    """Which rows saw enough tokens per parameter, whatever thousands N and D are counted in.

    Where a column is in another unit and the median run would be far from any training, the ratio is
    shifted by the power of a thousand that brings it nearest to 20, as compute-optimal runs have.
    """
    ratio = logs[law.units.index("tokens")] - logs[law.units.index("parameters")]
    middle, thousand = float(np.median(ratio)), np.log(1e3)
    if _size_slips(law, logs) and not np.log(0.1) <= middle <= np.log(5e3):
        ratio = ratio + thousand * np.round((np.log(20.0) - middle) / thousand)
    return np.asarray(ratio >= np.log(UNDER_TRAINED))


def _ends(done: Fit) -> list[Caution]:
    theta, found = dict(zip(done.law.names, done.theta, strict=True)), []
    share = floor_share(done)
    if share < NO_FLOOR:
        text = f"the floor is {share:.2g} of the lowest {done.law.output}: these runs do not show one"
        found.append(Caution("floor-at-zero", text))
    for name in ("alpha", "beta", "c", "eta", "alpha_n", "alpha_d"):
        if name in theta and not 0.01 < theta[name] < 2.5:
            found.append(
                Caution(
                    "exponent-at-bound",
                    f"{name} is {theta[name]:.3g}, outside 0.01 to 2.5: this term is not identified",
                )
            )
    return found


def _starts(done: Fit) -> list[Caution]:
    if done.tried == 1 or done.agreeing >= max(2, done.tried // 10):  # a law with one start has one end
        return []
    text = f"{done.agreeing} of {done.tried} starts ended at the best objective; it may not be the lowest one"
    return [Caution("starts-disagree", text)]


def one_sided(done: Fit, name: str) -> tuple[float, float]:
    """95 % profile range of the log parameter ``name``; infinite where the profile stays flat.

    The objective rises by the factor exp(3.84 / n) at the ends (likelihood ratio, one parameter). A floor at
    zero is as good as one a thousandth of the lowest output: from there the upper end is within reach, which
    is the lowest output at most.
    """
    value = float(done.theta[done.law.names.index(name)])
    if name == "e":
        value = max(value, float(done.y.min()) - np.log(1e3))
    steps = np.linspace(0.0, 6.0 * np.log(10.0), 37)[1:]
    limit = done.objective * np.exp(3.84 / len(done.y))
    ends = []
    for sign in (-1.0, 1.0):
        beyond = np.flatnonzero(profile(done, name, value + sign * steps) > limit)
        ends.append(value + sign * steps[beyond[0]] if len(beyond) else sign * np.inf)
    return ends[0], min(ends[1], max(value, float(done.y.min()))) if name == "e" else ends[1]


def _one_sided(done: Fit) -> list[Caution]:
    found = []
    floor = ("e",) if "e" in done.law.names and done.law.link == "log" else ()
    for name in (*done.law.constants, *floor):
        low, high = one_sided(done, name)
        if high - low <= np.log(10.0):
            continue
        below, above = (
            ("0" if np.isinf(low) else f"{np.exp(low):.3g}"),
            ("inf" if np.isinf(high) else f"{np.exp(high):.3g}"),
        )
        text = (
            f"exp({name}) can lie anywhere from {below} to {above} for nearly the same "
            f"objective: read it as a bound"
        )
        found.append(Caution("one-sided", text))
    return found


def _outliers(done: Fit, numbers: NDArray[np.intp]) -> list[Caution]:
    far = done.residuals / max(_robust(done), 1e-12)
    rows = np.flatnonzero(np.abs(far) > OUTLIER)
    if not len(rows) or len(rows) > len(far) // 4:
        return []
    named = ", ".join(str(int(numbers[row])) for row in rows[np.argsort(-np.abs(far[rows]))][:5])
    text = f"{len(rows)} rows lie more than {OUTLIER:g} robust standard deviations off the law (rows {named})"
    return [Caution("outliers", text + _without(done, rows))]


def _under_trained(done: Fit) -> list[Caution]:
    if not {"parameters", "tokens"} <= set(done.law.units) or _size_slips(done.law, done.x):
        return []
    rows = np.flatnonzero(~well_trained(done.law, done.x))
    if not len(rows):
        return []
    text = f"{len(rows)} of {len(done.y)} rows saw fewer than {UNDER_TRAINED:g} tokens per parameter"
    return [Caution("under-trained-rows", text + _without(done, rows))]


def _scattered(done: Fit) -> list[Caution]:
    """A caution where one large run lies further off the law than twice the compute would bring it."""
    if not of_sizes(done.law):
        return []
    size, noise = done.x.sum(axis=0), noise_of(done)
    large = done.x[:, size >= np.quantile(size, 0.9)]
    here, there = (
        np.log(done.predict(dict(zip(done.law.inputs, np.exp(row), strict=True))))
        for row in (large, large + 0.5 * np.log(2.0))
    )
    gain = float(np.median(here - there))
    if noise <= gain:
        return []
    text = (
        f"one large run lies {100 * noise:.2g} % off the law, more than the {100 * gain:.2g} % that twice "
        f"the compute gains: something beside N and D moves this loss (rate, data, shape; of a contrastive "
        f"loss the batch), or another law holds"
    )
    return [Caution("scattered", text)]


def _delta(done: Fit, known: Uncertainty) -> list[Caution]:
    own = done.law.derived(done.theta[None])
    name = next(iter([k for k in own if k.endswith("exponent")] or list(own)), None)
    if name is None:
        return []
    with np.errstate(over="ignore"):  # a draw may go anywhere; the exponent of none of them does
        low, high = np.quantile(done.law.derived(known.draws)[name], (0.025, 0.975))
    said = {
        width: float(done.law.derived(theta[None])[name][0]) for width, (_, theta) in neighbours(done).items()
    }
    if all(low <= value <= high for value in said.values()):
        return []
    told = ", ".join(f"{value:.4g} at delta {width:.2g}" for width, value in said.items())
    text = (
        f"{name} is {own[name][0]:.4g} at delta {done.delta:.2g} but {told}: the answer hangs "
        f"on the objective"
    )
    return [Caution("delta-sensitive", text)]


def _curving(done: Fit) -> list[Caution]:
    if not straight_here(done) or len(done.y) < 5:
        return []
    u = done.x[0] - done.x[0].mean()
    table = np.stack([np.ones_like(u), u, u * u], axis=1)
    answer, *_ = np.linalg.lstsq(table, done.y, rcond=None)
    left = done.y - table @ answer
    spread = np.sqrt(left @ left / (len(u) - 3) * np.linalg.inv(table.T @ table)[2, 2])
    if abs(answer[2]) < 4.0 * spread:
        return []
    text = (
        f"log {done.law.output} curves in log {done.law.inputs[0]} ({answer[2]:+.3g} +- "
        f"{spread:.2g} per square)"
    )
    text += (
        ": add a floor"
        if answer[2] > 0
        else ", steeper as it grows, which no floor mends: leave out the rows before it does, or try "
        "--law broken-power"
    )
    return [Caution("curving-without-floor", text)]


def _robust(done: Fit) -> float:
    return max(1.4826 * float(np.median(np.abs(done.residuals))), 0.1 * noise_of(done))


def _without(done: Fit, rows: NDArray[np.intp]) -> str:
    """The answer without ``rows``, as words to add to a caution."""
    keep = np.ones(len(done.y), bool)
    keep[rows] = False
    if refusal(done.law, done.x[:, keep]) is not None:
        return "; without them the law could not be fitted"
    x: Mapping[str, Array] = {
        name: np.exp(row[keep]) for name, row in zip(done.law.inputs, done.x, strict=True)
    }
    y = np.exp(done.y[keep]) if done.law.link == "log" else done.y[keep]
    other = fit(done.law, x, y, delta=done.delta, asymmetry=done.asymmetry)
    before, after = (done.law.derived(f.theta[None]) for f in (done, other))
    told = [k for k in before if before[k][0] != after[k][0]]  # an exponent of exactly a half tells nothing
    name = next((k for k in told if k.endswith("exponent")), next(iter(told), None))
    if name is None:
        return ""
    return f"; without them {name} is {after[name][0]:.4g} in place of {before[name][0]:.4g}"
