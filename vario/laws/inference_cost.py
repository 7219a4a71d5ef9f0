"""Seconds to answer, from the length of the prompt and of the output, on hardware of one's own.

T(p, o) = prefill(p) + o * per_token, with prefill piecewise linear in the prompt. The idealised time is
the lower envelope of repeated measurements, so that other users of the machine do not count.

When to use: comparing models by what they cost rather than by what a busy service took.
When not to: outputs so long that a token's price grows with its place; ask for ``growth``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vario.laws._newton import Array

CARD = {
    "papers": ("P128",),
    "inputs": ("prompt", "output"),
    "output": "seconds",
    "checked": "closed form: planted times with and without contention; result: a decoder timed on a "
    "processor: 5.9 % off at 12 unseen pairs, 9.6 % from times with sleeps in half of them",
    "changed": "the lower envelope of repeats in place of dedicated hardware; growth of the "
    "price with the cache is optional",
}


@dataclass(frozen=True)
class RunTime:
    """Seconds of prefill at the knots, per output token, and their growth with place (0 unless asked)."""

    knots: Array
    prefill: Array
    per_token: float
    growth: float

    def seconds(self, prompt: Array | float, output: Array | float) -> Array:
        prompt, output = np.asarray(prompt, float), np.asarray(output, float)
        whole = output * self.per_token + self.growth * output * (prompt + output / 2.0)
        return np.asarray(np.interp(prompt, self.knots, self.prefill) + whole)


def idealised(prompt: Array, output: Array, seconds: Array) -> tuple[Array, Array, Array]:
    """The fastest of the repeats at each (prompt, output): contention only ever adds."""
    keys = np.stack([prompt, output], axis=1)
    places, back = np.unique(keys, axis=0, return_inverse=True)
    back = back.reshape(-1)
    least = np.full(len(places), np.inf)
    np.minimum.at(least, back, seconds)
    return places[:, 0], places[:, 1], least


def fit_time(
    prompt: Array, output: Array, seconds: Array, *, knots: int = 3, growth: bool = False
) -> RunTime:
    """Relative least squares on the idealised times; ``knots`` places of the prompt, evenly in rank."""
    prompt, output, seconds = idealised(
        np.asarray(prompt, float), np.asarray(output, float), np.asarray(seconds, float)
    )
    at = np.unique(np.quantile(np.unique(prompt), np.linspace(0, 1, knots)))
    need = len(at) + 1 + int(growth)
    if len(seconds) < need:
        raise ValueError(f"{len(seconds)} distinct (prompt, output) pairs; {need} are needed")
    hats = np.stack([np.interp(prompt, at, row) for row in np.eye(len(at))], axis=1)
    table = np.concatenate([hats, output[:, None], (output * (prompt + output / 2.0))[:, None]], axis=1)
    table = table if growth else table[:, :-1]
    scale = np.abs(table).max(axis=0) + 1e-300
    answer = np.linalg.lstsq(table / scale / seconds[:, None], np.ones(len(seconds)), rcond=None)[0] / scale
    more = float(answer[len(at) + 1]) if growth else 0.0
    return RunTime(at, answer[: len(at)], float(answer[len(at)]), more)
