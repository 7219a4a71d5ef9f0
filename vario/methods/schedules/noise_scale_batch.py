r"""Batch that follows the gradient noise scale, estimated without bias from two batch sizes.

.. math::
    |G|^2 = \frac{B g_B^2 - b g_b^2}{B - b}, \quad S = \frac{g_b^2 - g_B^2}{1/b - 1/B}, \quad
    B_{simple} = S / |G|^2

g_b and g_B are gradient norms at a small and a large batch: a rank or micro-batch, and their mean. Each of
the two estimates is averaged over steps first; they are divided last, because a ratio of noisy numbers is
biased.

When to use: time matters and hardware is at hand: below the noise scale a larger batch is nearly free.

When not to: examples are what is scarce; a batch at the noise scale spends about twice the examples.

>>> plan = NoiseScaleBatch(range(1000), 10, decay=0.0, after=1)
>>> plan.update(small_sq=5.0, large_sq=2.0, small=10, large=40)  # |G|^2 = 1, S = 40
40
>>> round(plan.noise_scale, 6)
40.0
"""

from __future__ import annotations

import math
from typing import Any

from vario.methods.schedules._growing_batches import GrowingBatches

__all__ = ["NoiseScaleBatch"]

CARD = {
    "papers": ("P173",),
    "slot": "batch-sampler",
    "treats": ("batch-too-small",),
    "example": {"batch_size": 4},
    "cost": "two squared norms per step, which data-parallel training and accumulation have for free",
    "checked": "equation; closed form on least squares; 1 / alpha - 1 of the coherence of per-example "
    "gradients (P033)",
    "changed": "a negative estimate of |G|^2 is kept in the average and flagged (noise_scale is None), not "
    "replaced by zero as in gns-pytorch; the batch never shrinks",
    "shown": "least squares, d = 20, 200 pairs (10, 1000): within 3 % of the exact noise scale. "
    "MNIST-5k, SGD at the best of five rates for each of b = 8 to 512: steps to a loss of .25 "
    "turn at a batch of 76, the mean measured noise scale is 58",
}


class NoiseScaleBatch(GrowingBatches):
    """A batch sampler; from the ``after``-th measurement on, the batch grows to ``share`` noise scales."""

    def __init__(
        self,
        sampler: Any,
        batch_size: int,
        *,
        decay: float = 0.99,
        share: float = 1.0,
        after: int = 20,
        largest: int | None = None,
    ) -> None:
        super().__init__(sampler, batch_size, largest=largest)
        self.decay, self.share, self.after, self.seen = decay, share, after, 0
        self.signal = self.noise = self.weight = 0.0

    def update(self, *, small_sq: float, large_sq: float, small: int, large: int) -> int:
        """Squared gradient norms at batch ``small`` and ``large``; returns the batch size from here on."""
        if not 0 < small < large:
            raise ValueError(f"NoiseScaleBatch: needs 0 < small < large; got {small} and {large}.")
        signal = (large * large_sq - small * small_sq) / (large - small)
        noise = (small_sq - large_sq) / (1 / small - 1 / large)
        if math.isfinite(signal) and math.isfinite(noise):
            self.signal += (1 - self.decay) * (signal - self.signal)
            self.noise += (1 - self.decay) * (noise - self.noise)
            self.weight += (1 - self.decay) * (1 - self.weight)
        self.seen += 1
        scale = self.noise_scale
        if scale is None or self.seen < self.after:  # the batch never shrinks: an early guess would stay
            return self.batch_size
        return self.grow(self.share * scale)

    @property
    def noise_scale(self) -> float | None:
        """B_simple, in examples; None while the gradient cannot be told from zero."""
        if self.weight == 0 or self.signal <= 0 or self.noise < 0:
            return None
        return self.noise / self.signal  # both carry the same start-up weight

    def state_dict(self) -> dict[str, Any]:
        names = ("signal", "noise", "weight", "seen")
        return {**super().state_dict(), **{name: getattr(self, name) for name in names}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.signal, self.noise = state["signal"], state["noise"]
        self.weight, self.seen = state["weight"], state["seen"]
