r"""The menu against class imbalance: draw more of the rare, fewer of the common, or correct the outputs.

.. math::
    \text{over: } p_i \propto 1 / n_{c(i)}, \text{ as many draws as } C \max_c n_c, \qquad
    \text{under: every class cut to } \min_c n_c, \qquad
    \text{threshold: } z_c \leftarrow z_c - \log \pi_c

The paper found oversampling to full balance the best for networks; at small scale thresholding won here. Both
cost one line: try both. Two-phase training is ``mode="over"`` and then ``mode="plain"``.

When to use: class-imbalance, class-neglected; balanced accuracy or rare classes matter.

When not to: overall accuracy or calibrated probabilities on data of the same imbalance matter.

>>> labels = torch.tensor([0] * 8 + [1] * 2)
>>> drawn = labels[torch.tensor(list(ImbalanceSampler(labels, mode="over", seed=1)))]
>>> len(drawn), labels[torch.tensor(list(ImbalanceSampler(labels, mode="under")))].bincount().tolist()
(16, [2, 2])
>>> threshold = PriorThreshold(labels)
>>> threshold(torch.tensor([[1.0, 0.0]])).argmax().item()  # class 0 led by less than its advantage of log 4
1
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from vario.methods.samplers._epoch_sampler import EpochSampler

__all__ = ["ImbalanceSampler", "PriorThreshold"]

CARD = {
    "papers": ("P086",),
    "slot": "sampler",
    "treats": ("class-imbalance", "class-neglected"),
    "example": {"labels": (0, 0, 0, 0, 0, 0, 1, 1), "mode": "over"},
    "cost": "oversampling: C max(n) / n as many passes; undersampling: fewer",
    "checked": "equation; chi-squared test of the frequencies; imbalanced-learn 0.14: the same number of "
    "each class over and under, checked once and by a test where it is installed",
    "changed": "oversampling repeats every example of a class equally often up to one, instead of drawing "
    "with "
    "replacement: every example of the largest class is seen",
    "shown": "MNIST-5k, five classes cut to 8 examples: balanced accuracy of thresholding and of "
    "oversampling each "
    "at least 5 points above the baseline",
}

MODES = ("plain", "over", "under")


class ImbalanceSampler(EpochSampler):
    """Balanced epochs: ``mode`` over, under, or plain (for the second phase)."""

    def __init__(
        self,
        labels: Sequence[int] | Tensor,
        *,
        mode: str = "over",
        seed: int = 0,
        rank: int = 0,
        ranks: int = 1,
    ) -> None:
        if mode not in MODES:
            raise ValueError(f"ImbalanceSampler: mode is {mode!r}; choose one of {', '.join(MODES)}.")
        self.labels = torch.as_tensor(labels)
        super().__init__(len(self.labels), seed=seed, rank=rank, ranks=ranks)
        self.mode = mode

    def update(self, indices: Sequence[int] | Tensor, losses: Tensor) -> None:
        """Nothing: this sampler does not look at losses."""

    def _order(self, draw: torch.Generator) -> Tensor:
        if self.mode == "plain":
            return torch.randperm(self.size, generator=draw)
        members = [(self.labels == c).nonzero()[:, 0] for c in torch.bincount(self.labels).nonzero()[:, 0]]
        sizes = [len(m) for m in members]
        wanted = max(sizes) if self.mode == "over" else min(sizes)
        parts = []
        for m in members:
            rounds = [torch.randperm(len(m), generator=draw) for _ in range(-(-wanted // len(m)))]
            parts.append(m[torch.cat(rounds)[:wanted]])
        together = torch.cat(parts)
        return together[torch.randperm(len(together), generator=draw)]


class PriorThreshold(nn.Module):
    """Subtracts the log share of each class in the training labels from logits (..., C), at prediction."""

    log_prior: Tensor

    def __init__(self, labels: Sequence[int] | Tensor, classes: int | None = None) -> None:
        super().__init__()
        counts = torch.bincount(torch.as_tensor(labels), minlength=classes or 0).float()
        if bool((counts == 0).any()):
            raise ValueError(
                f"PriorThreshold: no label of class {int((counts == 0).nonzero()[0])}; its prior is unknown."
            )
        self.register_buffer("log_prior", (counts / counts.sum()).log())

    def forward(self, logits: Tensor) -> Tensor:
        return logits - self.log_prior  # (..., C)
