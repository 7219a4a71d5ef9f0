"""Accuracy of a large model on a benchmark, from how hard each task was for the small ones.

The accuracies of a task over the small models are its difficulty profile. Tasks are clustered by
profile; a cluster that is still at chance, or that does not grow, cannot be extrapolated and is left
out. Each other cluster is cut into quarters by mean accuracy, because a mean over unlike tasks bends, and
in each the log odds above chance are a line in log compute. The mean over the predictable tasks is mapped to
the whole benchmark by a line through the small models.

When to use: per-task accuracies of four or more models of growing compute.
When not to: more than half of the tasks are still at chance: `refused` says so.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vario.laws._newton import Array

CARD = {
    "papers": ("P126",),
    "inputs": ("C",),
    "output": "accuracy",
    "checked": "closed form: simulated tasks of planted difficulty, some of them emergent",
    "changed": "k-means with the number of clusters chosen by silhouette, in place of an improved mean "
    "shift; a logistic in log compute in place of exp(-a C^-b - c), which misses items of item-response "
    "form by 3 to 6 points at ten times the compute",
}

SURE = 2e-3  # accuracies nearer to 0 or 1 than this say nothing of the odds
PARTS = 4  # of a cluster, by mean accuracy: each gets a curve
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
    parts: list[NDArray[np.intp]] = []
    for one in np.unique(clusters):
        rows = np.flatnonzero(clusters == one)
        mean = profiles[rows].mean(axis=0)
        grows = mean[-1] - chance > RISE and mean[-2:].mean() - mean[:2].mean() > RISE / 2
        if grows or mean[-1] > 0.95:
            good[rows] = True
            by_ease = rows[np.argsort(profiles[rows].mean(axis=1), kind="stable")]
            parts += [part for part in np.array_split(by_ease, PARTS) if len(part)]
    left_out = float(1.0 - good.mean())
    if left_out > 0.5:
        reason = (
            f"{100 * left_out:.0f} % of the tasks are at chance or do not grow; no curve "
            f"can be drawn through them"
        )
        return Difficulty(float("nan"), clusters, good, reason)
    sums = [
        len(part) * _extended(log_c, profiles[part].mean(axis=0), chance, np.log(target)) for part in parts
    ]
    subset = sum(sums) / good.sum()
    small, whole = profiles[good].mean(axis=0), profiles.mean(axis=0)
    ratio = float((small - chance) @ (whole - chance) / max((small - chance) @ (small - chance), 1e-12))
    return Difficulty(float(chance + ratio * (subset - chance)), clusters, good, None)


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


def _extended(log_c: Array, mean: Array, chance: float, at: float) -> float:
    """The accuracy at log compute ``at``, by least squares in the log odds with a binomial's weights."""
    above = np.clip((mean - chance) / (1.0 - chance), SURE, 1.0 - SURE)
    root = np.sqrt(above * (1.0 - above))
    table = np.stack([np.ones_like(log_c), log_c - log_c.mean()], axis=1)
    line, *_ = np.linalg.lstsq(table * root[:, None], np.log(above / (1.0 - above)) * root, rcond=None)
    odds = np.exp(-(line[0] + line[1] * (at - log_c.mean())))
    return float(chance + (1.0 - chance) / (1.0 + odds))
