"""The best learning rate when the batch and the number of tokens both change.

lr*(B, T) = 2 lr_max / (sqrt(Bc / B) + sqrt(B / Bc)), with Bc = c T^gamma: the rate grows like sqrt(B) below
the critical batch, falls like 1 / sqrt(B) above it, and the peak moves with the training length.

When to use: optimal rates from sweeps at several batches and at least two training lengths.
When not to: rates that only saturate and never fall; the peak is then a lower bound, and reported as one.
Plain SGD is such a case: its exact best rate on structured features grows with the batch itself, then
saturates, which no sum of square roots follows (its critical batch comes out at 10^11). There
`rate-saturation` finds the batch where doubling stops paying (P185's row, its second half).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product

import numpy as np

from vario.laws._newton import Array
from vario.laws._slopes import with_slopes

CARD = {
    "papers": ("P185",),
    "inputs": ("B", "T"),
    "output": "lr",
    "checked": "closed form: planted gamma of 0 and 1 told apart; saturation of the exact best "
    "rate on structured features",
    "changed": "the closed form joins the regimes that the paper states; its own "
    "parametrisation was not seen",
}


@dataclass(frozen=True)
class TimeTransfer:
    """Parameters log_lr (the largest rate), log_c and gamma."""

    id: str = "time-transfer"
    inputs: tuple[str, ...] = ("B", "T")
    units: tuple[str, ...] = ("batch", "tokens")
    output: str = "lr"
    link: str = "log"
    names: tuple[str, ...] = ("log_lr", "log_c", "gamma")
    constants: tuple[str, ...] = ()

    def evaluate(self, theta: Array, x: Array) -> tuple[Array, Array]:
        def value(t: Array) -> Array:
            log_lr, log_c, gamma = t.T[:, :, None]
            far = 0.5 * (x[0] - log_c - gamma * x[1])
            return np.asarray(log_lr + np.log(2.0) - np.logaddexp(far, -far))

        return with_slopes(value, theta)

    def raw(self, theta: Array, centre: Array, level: float) -> Array:
        log_lr, log_c, gamma = theta.T
        return np.stack([log_lr + level, log_c + centre[0] - gamma * centre[1], gamma], axis=1)

    def starts(self) -> Array:
        return np.array(list(product((0.0, 1.0), (-3.0, 0.0, 3.0), (0.0, 0.5, 1.0))))

    def derived(self, theta: Array) -> Mapping[str, Array]:
        return {"largest_lr": np.exp(theta[:, 0])}

    def critical_batch(self, theta: Array, tokens: float) -> Array:
        """The batch (s,) at which the best rate is largest, for this training length."""
        return np.asarray(np.exp(theta[:, 1] + theta[:, 2] * np.log(tokens)))


TIME_TRANSFER = TimeTransfer()
