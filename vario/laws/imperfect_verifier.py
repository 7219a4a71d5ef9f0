"""How far resampling can go when the check that accepts an answer makes mistakes.

A try is right with chance p; a right answer passes with ``hit``, a wrong one with ``slip``. With at
most K tries the chance of a pass is 1 - (1 - q)^K, q = p hit + (1 - p) slip, and what passes is right with
p hit / q whatever K. So accuracy has a ceiling, and where a wrong answer costs, the best K is finite.

When to use: unit tests, reward models, any filter in front of repeated sampling.
When not to: the verifier's mistakes depend on the answer in ways that two rates cannot hold.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vario.laws._newton import Array

CARD = {
    "papers": ("P088",),
    "inputs": ("p", "hit", "slip", "K"),
    "output": "accuracy",
    "checked": "closed form against drawn tries; the best K against brute force",
    "changed": "",
}


@dataclass(frozen=True)
class Verifier:
    """Chances that a right and that a wrong answer passes; scalars, or one per task."""

    hit: float = 1.0
    slip: float = 0.0


def accuracy(p: Array | float, verifier: Verifier, tries: Array | int) -> Array:
    """Chance that a task ends with a right accepted answer, mean over tasks (t,), for each K (m,)."""
    right, passed = _rates(p, verifier)
    return np.asarray((_share(right, passed)[:, None] * _stopped(passed, tries)).mean(axis=0))


def ceiling(p: Array | float, verifier: Verifier) -> float:
    """Accuracy of endless tries."""
    return float(_share(*_rates(p, verifier)).mean())


def reward(
    p: Array | float, verifier: Verifier, tries: Array | int, *, wrong: float = -1.0, cost: float = 0.0
) -> Array:
    """Mean reward for each K (m,): 1 for right, ``wrong`` for wrong accepted, 0 for none, ``cost`` a try."""
    right, passed = _rates(p, verifier)
    share, done = _share(right, passed)[:, None], _stopped(passed, tries)
    expected = np.where(passed[:, None] > 0, done / np.maximum(passed[:, None], 1e-300), np.atleast_1d(tries))
    return np.asarray((done * (share + wrong * (1.0 - share)) - cost * expected).mean(axis=0))


def best_tries(
    p: Array | float, verifier: Verifier, *, wrong: float = -1.0, cost: float = 0.0, most: int = 10_000
) -> int | None:
    """The K in 0..most with the largest reward; None where more is always better (up to ``most``)."""
    if verifier.slip == 0.0 and cost == 0.0:
        return None
    tries = np.arange(most + 1.0)
    value = reward(p, verifier, tries, wrong=wrong, cost=cost)
    best = int(np.argmax(value))
    return None if best == most else best


def _rates(p: Array | float, verifier: Verifier) -> tuple[Array, Array]:
    p = np.atleast_1d(np.asarray(p, float))
    right = p * verifier.hit
    return right, right + (1.0 - p) * verifier.slip


def _share(right: Array, passed: Array) -> Array:
    return np.where(passed > 0, right / np.maximum(passed, 1e-300), 0.0)


def _stopped(passed: Array, tries: Array | int) -> Array:
    """Chance that one of K tries passed: (t, m)."""
    with np.errstate(divide="ignore"):
        fail = np.log1p(-np.minimum(passed, 1.0))[:, None]
    k = np.atleast_1d(np.asarray(tries, float))
    return np.asarray(np.where(k == 0, 0.0, -np.expm1(np.where(k == 0, 0.0, k * fail))))
