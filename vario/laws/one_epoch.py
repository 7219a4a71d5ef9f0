"""How large a model to train when every example is seen once: about five tokens per parameter.

The rule is the paper's: one epoch, no dropout, a width at which the tokens processed are about
five times the parameters. ``speed_up`` says what a fitted loss curve gains by it.

Measured on characters (width 48, context 16, 1,500 steps of 128 windows): one pass reached 1.74 nats held
out and followed a power law with R^2 .995; 24 passes over 8,000 characters reached 5.29 (.45 in
training). Dropout .3 is worse in one pass (600 steps that see every character once): 2.07 in place of 1.87.

When to use: data are plentiful and compute is what runs out.
When not to: inference will cost more than training, or data run out: see `repetition`.
"""

from __future__ import annotations

import numpy as np

from vario.laws._newton import Array
from vario.laws.fit import fit
from vario.laws.power import POWER_FLOOR

CARD = {
    "papers": ("P078",),
    "inputs": ("tokens",),
    "output": "parameters",
    "checked": "equation; the power law of a one-pass curve: planted, and of a character model",
    "changed": "",
}

TOKENS_PER_PARAMETER = 5.0  # the paper's heuristic, for its own models


def size_for(tokens: float, *, ratio: float = TOKENS_PER_PARAMETER) -> float:
    """Parameters for one epoch over ``tokens`` tokens."""
    return tokens / ratio


def epochs_given_up(tokens_processed: float, unique: float) -> float:
    """How many times the same data would have been seen."""
    return tokens_processed / unique


def follows_a_power_law(step: Array, loss: Array) -> float:
    """R^2 of a power law with a floor, in logs: near 1 for one pass; memorised repeats fall off it."""
    done = fit(POWER_FLOOR, {"x": step}, loss, delta=np.inf)
    return float(1.0 - (done.residuals**2).sum() / ((done.y - done.y.mean()) ** 2).sum())
