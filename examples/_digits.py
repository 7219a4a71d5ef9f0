"""The small training script that every page here changes by two lines: scikit-learn's handwritten digits."""

from __future__ import annotations

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import TensorDataset


def data() -> tuple[TensorDataset, Tensor, Tensor]:
    """1,400 digits of 8 x 8 to train on; 397 inputs and labels to test."""
    images, labels = load_digits(return_X_y=True)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    x, y = torch.tensor(images, dtype=torch.float32)[order] / 16, torch.tensor(labels)[order].long()
    return TensorDataset(x[:1400], y[:1400]), x[1400:], y[1400:]


def network(activation: nn.Module | None = None) -> nn.Sequential:
    """64 - 100 - 10, always from the same start."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(64, 100), activation or nn.GELU(), nn.Linear(100, 10))


def accuracy(model: nn.Module, x: Tensor, y: Tensor) -> float:
    """The share of right answers."""
    with torch.no_grad():
        return (model(x).argmax(dim=1) == y).float().mean().item()
