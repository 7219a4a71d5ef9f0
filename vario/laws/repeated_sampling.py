"""What k tries at a problem are worth: pass@k without bias, and how coverage grows beyond the samples.

pass@k of a problem with c right out of n is 1 - C(n - c, k) / C(n, k), unbiased; 1 - (1 - c/n)^k is not.
Over problems, coverage grows as exp(a k^b), a < 0, b < 0, when the chances have a heavy tail towards 0,
and exponentially when they do not. A beta-binomial can be asked for instead; both keep the
problems that were never solved.

When to use: how many samples to draw, small model many times or large model once.
When not to: k more than 30 times the samples per problem; forecasts are marked beyond that.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vario.laws._newton import Array

CARD = {
    "papers": ("P353",),
    "inputs": ("samples", "correct", "k"),
    "output": "coverage",
    "checked": "closed form: Beta chances, B(a, b + k) / B(a, b); a point mass is recognised as exponential",
    "changed": "",
}

FAR = 30.0  # times the samples per problem


def pass_at(correct: ArrayLike, samples: ArrayLike, k: ArrayLike) -> Array:
    """Unbiased pass@k of every problem (p,) for every k (m,): (p, m); nan where k exceeds the samples."""
    correct, ks = np.asarray(correct, float), np.atleast_1d(np.asarray(k, float))
    samples = np.broadcast_to(np.asarray(samples, float), correct.shape)
    if ((correct < 0) | (correct > samples)).any():
        at = int(np.argmax((correct < 0) | (correct > samples)))
        raise ValueError(f"problem {at}: {correct[at]:g} right out of {samples[at]:g}")
    keys, back = np.unique(samples * (samples.max() + 1.0) + correct, return_inverse=True)
    n, c = np.divmod(keys, samples.max() + 1.0)  # every distinct pair is worked out once
    wrong, whole = (n - c)[:, None], n[:, None]
    with np.errstate(invalid="ignore"):
        none = np.exp(_log_choose(wrong, ks) - _log_choose(whole, ks))
    value = np.where(ks > whole, np.nan, np.where(ks > wrong, 1.0, 1.0 - none))
    return np.asarray(value[back.reshape(-1)])


def coverage(correct: ArrayLike, samples: ArrayLike, k: ArrayLike) -> Array:
    """Mean of pass@k over the problems (m,)."""
    return np.asarray(pass_at(correct, samples, k).mean(axis=0))


@dataclass(frozen=True)
class Coverage:
    """A forecast of coverage: its family, its numbers, its value and 95 % interval at each k asked."""

    family: str
    numbers: tuple[float, ...]
    value: Array
    low: Array
    high: Array
    far: NDArray[np.bool_]  # k beyond 30 times the samples


def forecast(
    correct: ArrayLike, samples: int, k: ArrayLike, *, draws: int = 200, seed: int = 0, family: str = "auto"
) -> Coverage:
    """Coverage at any k from counts; ``family`` is beta, power, exponential or auto.

    auto: exponential where the counts scatter no more than one shared chance would (a point mass),
    else the power law of -log coverage, which on published counts missed by half of what the
    beta-binomial did. The interval is a bootstrap over problems; that of auto draws from both of these in
    turn, since no count tells which form holds further out.
    """
    correct, ks = np.asarray(correct, float), np.atleast_1d(np.asarray(k, float))
    rng = np.random.default_rng(seed)
    forms: tuple[str, ...] = (family,)
    if family == "auto":
        forms = ("exponential",) if is_point_mass(correct, samples) else ("power", "beta")
        family = forms[0]
    whole = {form: _fit(form, correct, samples) for form in forms}
    numbers, drawn = whole[family], []
    for draw in range(draws):
        form = forms[draw % len(forms)]
        again = _fit(form, rng.choice(correct, len(correct)), samples, start=whole[form])
        drawn.append(_at(form, again, ks))
    low, high = np.quantile(drawn, (0.025, 0.975), axis=0)
    return Coverage(family, numbers, _at(family, numbers, ks), low, high, ks > FAR * samples)


def is_point_mass(correct: ArrayLike, samples: int, *, limit: float = 3.0) -> bool:
    """Whether the variance of the counts is no more than ``limit`` standard errors above the binomial one."""
    correct = np.asarray(correct, float)
    share = correct.mean() / samples
    expected = samples * share * (1 - share)
    if expected == 0:
        return True
    ratio = correct.var(ddof=1) / expected
    return bool(ratio < 1.0 + limit * np.sqrt(2.0 / max(len(correct) - 1, 1)))


def _fit(
    family: str, correct: Array, samples: int, *, start: tuple[float, ...] | None = None
) -> tuple[float, ...]:
    if family == "exponential":
        return (float(correct.mean() / samples),)
    if family == "beta":
        return _fit_beta(correct, samples, start)
    if family == "power":
        ks = np.unique(np.geomspace(1, samples, 40).astype(int))
        seen = np.clip(coverage(correct, samples, ks), 1e-9, 1 - 1e-9)
        slope, level = np.polyfit(np.log(ks), np.log(-np.log(seen)), 1)
        return float(level), float(slope)
    raise ValueError(f"family {family!r} is none of beta, power, exponential, auto")


def _fit_beta(correct: Array, samples: int, start: tuple[float, ...] | None = None) -> tuple[float, float]:
    """Largest likelihood of the beta-binomial by Newton in log a, log b, from `start` or from moments."""
    counts, times = np.unique(correct, return_counts=True)
    mean = max(float(correct.mean()) / samples, 1e-6)
    size = max(mean * (1 - mean) / max(float(correct.var()) / samples**2, 1e-9) - 1.0, 1e-2)
    log = np.log(start or [max(mean * size, 1e-3), max((1 - mean) * size, 1e-3)])

    def score(at: Array) -> float:
        a, b = np.exp(at)
        own = _log_beta(counts + a, samples - counts + b) - _log_beta(np.array(a), np.array(b))
        return float(-(times * own).sum())

    damping, here, h = 1e-2, score(log), 1e-4
    for _ in range(60):
        near = {(i, j): score(log + h * np.array([i, j])) for i in (-1, 0, 1) for j in (-1, 0, 1)}
        slope = np.array([near[1, 0] - near[-1, 0], near[0, 1] - near[0, -1]]) / (2 * h)
        cross = (near[1, 1] - near[1, -1] - near[-1, 1] + near[-1, -1]) / (4 * h * h)
        bend = np.array([near[1, 0] + near[-1, 0] - 2 * here, near[0, 1] + near[0, -1] - 2 * here]) / h**2
        curve = np.array([[bend[0], cross], [cross, bend[1]]])
        values, vectors = np.linalg.eigh(curve)
        step = vectors @ ((vectors.T @ slope) / (np.abs(values) + damping * np.abs(values).max() + 1e-9))
        tried = np.clip(log - step, -8.0, 12.0)
        new = score(tried)
        if new < here:
            log, done, here, damping = tried, here - new, new, damping * 0.3
            if done < 1e-9 * abs(here):
                break
        else:
            damping = max(damping, 1e-3) * 5.0
            if damping > 1e6:
                break
    a, b = np.exp(log)
    return float(a), float(b)


def _at(family: str, numbers: tuple[float, ...], ks: Array) -> Array:
    if family == "exponential":
        return np.asarray(-np.expm1(ks * np.log1p(-min(numbers[0], 1 - 1e-12))))
    if family == "power":
        return np.exp(-np.exp(numbers[0] + numbers[1] * np.log(ks)))
    a, b = numbers
    return 1.0 - np.exp(_log_beta(np.array(a), b + ks) - _log_beta(np.array(a), np.array(b)))


def _log_choose(n: Array, k: Array) -> Array:
    return log_gamma(n + 1.0) - log_gamma(k + 1.0) - log_gamma(np.maximum(n - k, 0.0) + 1.0)


def _log_beta(a: Array, b: Array) -> Array:
    return log_gamma(a) + log_gamma(b) - log_gamma(a + b)


def log_gamma(x: Array) -> Array:
    """Log of the gamma function for x > 0: Stirling's series after shifting small arguments above 8."""
    x = np.asarray(x, float)
    small = x < 8.0
    shift = np.where(small, x, 1.0)
    log_product = np.where(small, np.log(shift), 0.0)
    for step in range(1, 8):
        log_product = log_product + np.where(small, np.log(shift + step), 0.0)
    z = np.where(small, x + 8.0, x)
    inverse = 1.0 / z
    square = inverse * inverse
    series = inverse * (
        1 / 12 - square * (1 / 360 - square * (1 / 1260 - square * (1 / 1680 - square / 1188)))
    )
    return np.asarray((z - 0.5) * np.log(z) - z + 0.5 * np.log(2 * np.pi) + series - log_product)
