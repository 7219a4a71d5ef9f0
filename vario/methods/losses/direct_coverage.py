r"""Direct coverage optimization: cross entropy for models that may answer N times (pass@N).

.. math::
    L = -\log\left(1 - (1 - p)^N\right), \qquad
    \nabla L = F(p, N)\, \nabla(-\log p), \quad F = \frac{N p (1-p)^{N-1}}{1 - (1-p)^N}

p is the probability of the right answer: of the class, or the product over the positions of a sequence.
F falls to zero once p is large against 1/N, so what N tries would find anyway is not made more certain at
the cost of other answers. N = 1 is cross entropy.

When to use: fine-tuning a model of which N samples are drawn and one right one is enough.

When not to: one answer counts; or the loss sees flattened tokens, (batch x positions, classes): then each
token is taken for an answer of its own. Give it (batch, classes, positions).

>>> logits = torch.tensor([[4.0, 0.0, 0.0]]); right = torch.tensor([0])
>>> [round(DirectCoverageLoss(samples=n)(logits, right).item(), 6) for n in (1, 4)]
[0.035976, 2e-06]
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from vario.methods.losses._cross_entropy import as_torch, at_label, check, reduce, rows, settings_of

__all__ = ["DirectCoverageLoss"]

CARD = {
    "papers": ("P067",),
    "slot": "loss",
    "treats": ("overconfidence",),
    "example": {"samples": 8},
    "cost": "as cross entropy",
    "checked": "closed form: gradient factor F, N = 1, optimum of one question; authors' code "
    "allanraventos/refine 31a9e6e (MIT), read: gradients equal where its series for N p < 0.1 holds",
    "changed": "the loss itself is returned; the authors multiply cross entropy by a detached F, which has "
    "the same gradient and another value",
    "shown": "answer law (.6, .3, .1), N = 16: pass@16 .9988 at the optimum against .9805 for cross entropy "
    "and .600 for the most likely answer. Reasoning benchmarks: not shown here",
}


class DirectCoverageLoss(nn.Module):
    """In place of ``nn.CrossEntropyLoss``; one loss per example, whatever its positions.

    ``samples`` is N. ``ignore_index`` marks positions that are not part of the answer.
    """

    def __init__(self, *, samples: int = 16, ignore_index: int = -100, reduction: str = "mean") -> None:
        super().__init__()
        check("DirectCoverageLoss", reduction)
        if samples < 1:
            raise ValueError(f"DirectCoverageLoss: samples is {samples}; it is how often may be answered.")
        self.samples, self.ignore_index, self.reduction = samples, ignore_index, reduction

    @classmethod
    def from_existing(cls, loss: nn.CrossEntropyLoss, *, samples: int = 16) -> DirectCoverageLoss:
        """With its reduction and ignored class; refuses class weights and label smoothing."""
        ignore_index, reduction = settings_of("DirectCoverageLoss", loss)
        return cls(samples=samples, ignore_index=ignore_index, reduction=reduction)

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        scores, labels, counts = rows("DirectCoverageLoss", output, target, self.ignore_index)
        tokens = at_label("DirectCoverageLoss", scores.log_softmax(-1), labels)[..., 0]  # (n, ...)
        tokens = torch.where(counts, tokens, torch.zeros_like(tokens))
        if tokens.ndim > 1:
            tokens, counts = tokens.flatten(1).sum(1), counts.flatten(1).any(1)
        return as_torch(reduce(-_log_coverage(tokens, self.samples), counts, self.reduction), output)

    def extra_repr(self) -> str:
        return f"samples={self.samples}, reduction={self.reduction}"


def _log_coverage(log_p: Tensor, samples: int) -> Tensor:
    """log(1 - (1 - p)^N) from log p, without overflow, underflow or a pole in the gradient."""
    if samples == 1:
        return log_p
    eps = torch.finfo(log_p.dtype).eps
    small = log_p < math.log(eps / samples)  # there 1 - (1 - p)^N is N p to rounding
    kept = log_p.clamp(math.log(eps / samples), -eps)
    miss = torch.where(  # log(1 - p), each form where it is exact
        kept < -math.log(2), torch.log1p(-kept.exp()), torch.log(-torch.expm1(kept))
    )
    return torch.where(small, log_p + math.log(samples), _log_of_one_minus(samples * miss))


def _log_of_one_minus(x: Tensor) -> Tensor:
    """log(1 - exp(x)) for x < 0."""
    near, far = x.clamp(min=-math.log(2)), x.clamp(max=-math.log(2))
    return torch.where(x > -math.log(2), torch.log(-torch.expm1(near)), torch.log1p(-far.exp()))
