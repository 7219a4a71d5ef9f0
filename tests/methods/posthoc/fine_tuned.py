"""Small networks of MNIST digits, trained on one kind of picture and tuned on another."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from tests.methods.digits import network


def shifted(x: Tensor, right: int, down: int) -> Tensor:
    """Pictures (n, 784) moved by whole pixels."""
    return x.view(-1, 28, 28).roll((down, right), (1, 2)).flatten(1)


def trained(model: nn.Module, x: Tensor, y: Tensor, *, seed: int, steps: int, lr: float) -> nn.Module:
    """A trained copy: Adam, batches of 64, the order from the seed."""
    model, draw = copy.deepcopy(model), torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    for _ in range(steps):
        pick = torch.randint(len(x), (64,), generator=draw)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x[pick]), y[pick]).backward()
        optimizer.step()
    return model


def pretrained(x: Tensor, y: Tensor, seed: int) -> nn.Module:
    return trained(network(seed, hidden=256), x, y, seed=seed, steps=600, lr=1e-3)
