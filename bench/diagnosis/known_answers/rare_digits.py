"""Digits of which five have 8 examples and five 400 (P086)."""

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, WeightedRandomSampler

sys.path.insert(0, str(Path(__file__).parent.parent / "programs"))
from mnist import mnist  # noqa: E402

parser = argparse.ArgumentParser()
parser.add_argument("--sampler", choices=("none", "balanced"), default="none")
parser.add_argument("--epochs", type=int, default=12)
args = parser.parse_args()
torch.manual_seed(0)
x, y = mnist()
x = x / 255
keep = np.concatenate([np.flatnonzero(y[:4500] == k)[: 8 if k < 5 else 400] for k in range(10)])
train = TensorDataset(torch.from_numpy(x[keep]), torch.from_numpy(y[keep]))
rest = np.setdiff1d(np.arange(5000), keep)
x_test, y_test = torch.from_numpy(x[rest]), torch.from_numpy(y[rest])
counts = np.bincount(y[keep], minlength=10)
if args.sampler == "balanced":
    sampler = WeightedRandomSampler((1 / counts)[y[keep]], len(keep))
    loader = DataLoader(train, batch_size=64, sampler=sampler)
else:
    loader = DataLoader(train, batch_size=64, shuffle=True)
model = nn.Sequential(nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 10))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)


def balanced_accuracy(logits):
    right = (logits.argmax(1) == y_test).float()
    return np.mean([right[y_test == k].mean().item() for k in range(10)])


for epoch in range(args.epochs):
    for images, labels in loader:
        loss = F.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        logits = model(x_test)
        test = F.cross_entropy(logits, y_test)
    print(f"epoch {epoch} loss {loss.item():.4f} test loss {test.item():.4f}")
print(f"balanced accuracy: {balanced_accuracy(logits)}")
prior = torch.from_numpy(np.log(counts / counts.sum())).float()
print(f"balanced accuracy over the prior: {balanced_accuracy(logits - prior)}")
