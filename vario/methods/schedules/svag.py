r"""SVAG: training as if the batch were smaller, to see whether the course of training depends on the batch.

.. math::
    g = \frac{1 + \sqrt{2l - 1}}{2}\, g_1 + \frac{1 - \sqrt{2l - 1}}{2}\, g_2, \qquad
    \eta, \beta_i, \epsilon \text{ as for a batch } l \text{ times smaller}

g_1 and g_2 are gradients of two batches of the usual size. Their combination has the same mean and l times
the variance, so l such steps, at the settings of ``scale_batch(optimizer, 1 / l)``, stand for one. As l grows
the course of training tends to that of a differential equation in which the batch has no part: where l = 1
already has that course, the rules of ``scale_batch`` hold.

When to use: before a rule is trusted on a long run: a short run at l = 1 and at l = 4 should agree.

When not to: to train; it costs 2 l times as many gradients.

>>> one, two = [torch.tensor([1.0])], [torch.tensor([3.0])]
>>> svag(one, two, splits=1), svag(one, two, splits=5)
([tensor([1.])], [tensor([-1.])])
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["svag"]

CARD = {
    "papers": ("P298",),
    "slot": "",
    "treats": (),
    "example": {"splits": 2},
    "cost": "two gradients per step, and l steps for one",
    "checked": "equation; closed form of mean and variance",
    "changed": "none",
    "shown": "l = 1 is Adam bit for bit; mean kept and variance times l over 50,000 draws. Noisy tanh "
    "teacher, Adam, batch 16, 64 networks: the courses of l = 1 and 4 differ by .048 in the log of the loss, "
    "mean of eight places (.05 allowed; .029 on the seeds it was tried on). On one fixed batch, without "
    "noise, by .40: there the rules do not hold, and it tells",
}


def svag(first: Sequence[Tensor], second: Sequence[Tensor], *, splits: float) -> list[Tensor]:
    """Gradients of two batches, tensor by tensor, as one gradient of a batch ``splits`` times smaller."""
    if not splits >= 1 or len(first) != len(second):
        raise ValueError(
            f"svag: splits is {splits}, which must be at least 1; {len(first)} and {len(second)} gradients."
        )
    root = (2 * splits - 1) ** 0.5
    if root == 1:
        return [g.clone() for g in first]
    return [torch.lerp(a, b, (1 - root) / 2) for a, b in zip(first, second, strict=True)]
