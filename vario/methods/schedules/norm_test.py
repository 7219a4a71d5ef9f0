r"""Batch that grows when the noise in the gradient outweighs its length.

.. math:: \frac{\mathrm{tr}\,\Sigma}{b} > \eta^2 \|g_B\|^2 \;\Rightarrow\;
    b \leftarrow \left\lceil \frac{\mathrm{tr}\,\Sigma}{\eta^2 \|g_B\|^2} \right\rceil

:math:`\Sigma` is the covariance of the per-example gradients and g_B the gradient of the batch.

When to use: the loss flattens out on noise and the batch can still grow; an alternative to lowering the rate.

When not to: memory is the limit, or the batch is already above the noise scale.

>>> test = NormTest(range(1000), 8, eta=0.5)
>>> test.update(variance=2.0, grad_sq=1.0), test.update(variance=50.0, grad_sq=1.0)
(8, 200)
>>> [len(batch) for batch in test]
[200, 200, 200, 200, 200]
"""

from __future__ import annotations

import math
from typing import Any

from vario.methods.schedules._growing_batches import GrowingBatches

__all__ = ["NormTest"]

CARD = {
    "papers": ("P030",),
    "slot": "batch-sampler",
    "treats": ("batch-too-small",),
    "example": {"batch_size": 4},
    "cost": "needs the variance of per-example gradients now and then (vario's noise instruments measure it)",
    "checked": "equation; closed form on least squares",
    "changed": "the coordinate-wise test is left out; the batch never shrinks and stops at `largest`",
    "shown": "MNIST-5k, 20 epochs: batch x8, at most 60 % of the steps, accuracy within 0.5 point; left to "
    "grow to "
    "x64 it lost 0.7 points",
}


class NormTest(GrowingBatches):
    """A batch sampler; call ``update`` with measurements. ``eta`` in (0, 1): smaller grows sooner."""

    def __init__(
        self, sampler: Any, batch_size: int, *, eta: float = 0.8, largest: int | None = None
    ) -> None:
        if not 0 < eta:
            raise ValueError(f"NormTest: eta is {eta}; it must be above 0.")
        super().__init__(sampler, batch_size, largest=largest)
        self.eta = eta

    def update(self, *, variance: float, grad_sq: float) -> int:
        """``variance``: trace of the covariance of one example's gradient; ``grad_sq``: squared norm of the
        batch's gradient. Returns the batch size from here on."""
        if not (math.isfinite(variance) and math.isfinite(grad_sq)) or variance <= 0:
            return self.batch_size  # a broken step must not decide
        if grad_sq <= 0:
            return self.grow(math.inf)
        wanted = variance / (self.eta**2 * grad_sq)
        return self.grow(math.ceil(wanted)) if wanted > self.batch_size else self.batch_size
