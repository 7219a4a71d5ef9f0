"""Accuracy of a large model on a benchmark, from how hard each task was for the small ones.

The accuracies of a task over the small models are its difficulty profile. Tasks are clustered by
profile; a cluster that is still at chance, or that does not grow, cannot be extrapolated and is left
out. In each other cluster accuracy follows g + (1 - g) exp(-a C^-b - c) with g the chance level, and
the mean over the predictable tasks is mapped to the whole benchmark by a line through the small models.

When to use: per-task accuracies of four or more models of growing compute.
When not to: more than half of the tasks are still at chance: `refused` says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from vario.laws._newton import Array, minimise
from vario.laws._slopes import with_slopes

CARD = {
    "papers": ("P126",),
    "inputs": ("C",),
    "output": "accuracy",
    "checked": "closed form: simulated tasks of planted difficulty, some of them emergent",
    "changed": "k-means with the number of clusters chosen by silhouette, in place of an improved mean shift",
}

RISE = 0.05  # accuracy above chance, at the largest model, below which a cluster is not yet growing


@dataclass(frozen=True)
class Difficulty:
    """The forecast of the benchmark's mean accuracy and what it rests on."""

    value: float
    clusters: NDArray[np.int64]  # of each task
    predictable: NDArray[np.bool_]  # of each task
    refused: str | None


def forecast(
    compute: Array, accuracy: Array, target: float, *, chance: float = 0.0, seed: int = 0
) -> Difficulty:
    """Mean accuracy over all tasks at compute ``target``, from ``accuracy`` (models, tasks)."""
    order = np.argsort(compute)
    log_c, accuracy = np.log(np.asarray(compute, float)[order]), np.asarray(accuracy, float)[order]
    if len(log_c) < 4:
        raise ValueError(f"{len(log_c)} models; a difficulty profile needs 4 or more")
    profiles = accuracy.T  # (tasks, models)
    clusters = cluster(profiles, seed=seed)
    good = np.zeros(len(profiles), bool)
    curves = {}
    for one in np.unique(clusters):
        mean = profiles[clusters == one].mean(axis=0)
        grows = mean[-1] - chance > RISE and mean[-2:].mean() - mean[:2].mean() > RISE / 2
        if grows or mean[-1] > 0.95:
            good |= clusters == one
            curves[int(one)] = _fit_curve(log_c, mean, chance)
    left_out = float(1.0 - good.mean())
    if left_out > 0.5:
        reason = (
            f"{100 * left_out:.0f} % of the tasks are at chance or do not grow; no curve "
            f"can be drawn through them"
        )
        return Difficulty(float("nan"), clusters, good, reason)
    at = np.log(target)
    subset = (
        sum(
            float((clusters == one).sum()) * _curve(theta, at, log_c, chance) for one, theta in curves.items()
        )
        / good.sum()
    )
    small, whole = profiles[good].mean(axis=0), profiles.mean(axis=0)
    ratio = float((small - chance) @ (whole - chance) / max((small - chance) @ (small - chance), 1e-12))
    # Through the small models the map is a line; at the end where all is solved it must reach 1.
    share = float(np.clip((subset - chance) / (1.0 - chance), 0.0, 1.0))
    slope = ratio + (1.0 - ratio) * share**4
    return Difficulty(float(chance + slope * (subset - chance)), clusters, good, None)


def cluster(profiles: Array, *, most: int = 8, seed: int = 0) -> NDArray[np.int64]:
    """k-means labels of the rows, k of the best silhouette between 2 and ``most``."""
    rng = np.random.default_rng(seed)
    far = np.sqrt(((profiles[:, None] - profiles[None]) ** 2).sum(axis=2))
    best, chosen = -1.0, np.zeros(len(profiles), np.int64)
    for count in range(2, min(most, len(profiles) - 1) + 1):
        labels = min((_k_means(profiles, count, rng) for _ in range(8)), key=lambda pair: pair[1])[0]
        score = _silhouette(far, labels)
        if score > best:
            best, chosen = score, labels
    return chosen


def _k_means(profiles: Array, count: int, rng: np.random.Generator) -> tuple[NDArray[np.int64], float]:
    centres = profiles[[int(rng.integers(len(profiles)))]]
    while len(centres) < count:  # far points are likelier starts (k-means++)
        near = ((profiles[:, None] - centres[None]) ** 2).sum(axis=2).min(axis=1) + 1e-12
        centres = np.vstack([centres, profiles[rng.choice(len(profiles), p=near / near.sum())]])
    labels = np.zeros(len(profiles), np.int64)
    for _ in range(50):
        far = ((profiles[:, None] - centres[None]) ** 2).sum(axis=2)
        new = far.argmin(axis=1)
        centres = np.stack(
            [profiles[new == k].mean(axis=0) if (new == k).any() else centres[k] for k in range(count)]
        )
        if (new == labels).all():
            break
        labels = new
    return labels, float(((profiles - centres[labels]) ** 2).sum())


def _silhouette(far: Array, labels: NDArray[np.int64]) -> float:
    kinds = np.unique(labels)
    if len(kinds) < 2:
        return -1.0
    mean = np.stack([far[:, labels == k].sum(axis=1) for k in kinds], axis=1)
    size = np.array([(labels == k).sum() for k in kinds])
    own = np.searchsorted(kinds, labels)
    rows = np.arange(len(labels))
    inside = mean[rows, own] / np.maximum(size[own] - 1, 1)
    other = mean / size
    other[rows, own] = np.inf
    outside = other.min(axis=1)
    return float(np.where(size[own] > 1, (outside - inside) / np.maximum(inside, outside), 0.0).mean())


def _fit_curve(log_c: Array, mean: Array, chance: float) -> Array:
    u = log_c - log_c.mean()

    def value(theta: Array) -> Array:
        return np.stack([_curve(row, u, np.zeros(1), chance) for row in np.atleast_2d(theta)])

    starts = np.array(list(product((-1.0, 0.0, 1.0), np.log([0.1, 0.3, 0.8]), (-6.0, -2.0))))
    ends, totals = minimise(lambda theta: with_slopes(value, theta), starts, mean, rounds=100)
    return np.asarray(ends[int(np.argmin(totals))])


def _curve(theta: Array, log_c: Array | float, centre: Array, chance: float) -> Array:
    """G + (1 - g) exp(-exp(a - b u) - exp(c)) at u = log C - mean of ``centre``."""
    u = np.asarray(log_c) - centre.mean()
    rate = np.exp(np.clip(theta[0] - np.exp(np.clip(theta[1], -5.0, 3.0)) * u, -50.0, 6.0))
    return np.asarray(chance + (1.0 - chance) * np.exp(-rate - np.exp(np.clip(theta[2], -30.0, 3.0))))
