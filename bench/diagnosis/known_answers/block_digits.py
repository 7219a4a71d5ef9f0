"""A digit above or below an empty block: where do the gradients with respect to the inputs lie (P026)?"""

import argparse
import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

sys.path.insert(0, str(Path(__file__).parent.parent / "programs"))
from mnist import mnist  # noqa: E402

parser = argparse.ArgumentParser()
parser.add_argument("--attack", type=float, default=0.0, help="length of the perturbation in training")
parser.add_argument("--epochs", type=int, default=15)
args = parser.parse_args()
torch.manual_seed(0)
x, y = (torch.from_numpy(values) for values in mnist())
x, y = (x / 255)[y < 2].view(-1, 28, 28), y[y < 2]
null = torch.zeros(28, 28)
for k in range(6, 22):  # a box with a cross in it
    null[k, [6, 21]] = null[[6, 21], k] = null[k, k] = null[k, 27 - k] = 1
on_top = torch.rand(len(x)) < 0.5
blocks = null.expand_as(x)
pictures = torch.where(
    on_top[:, None, None], torch.cat([x, blocks], dim=1), torch.cat([blocks, x], dim=1)
).flatten(1)
cut = int(0.8 * len(x))
train = DataLoader(TensorDataset(pictures[:cut], y[:cut]), batch_size=32, shuffle=True)
test = DataLoader(TensorDataset(pictures[cut:], y[cut:]), batch_size=100)
model = nn.Sequential(nn.Linear(56 * 28, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 2))
optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)


def attacked(images, labels, steps=5):
    delta = torch.zeros_like(images)
    for _ in range(steps):
        delta.requires_grad_()
        (slope,) = torch.autograd.grad(F.cross_entropy(model(images + delta), labels), delta)
        delta = delta.detach() + args.attack / 2 * F.normalize(slope, dim=1)
        delta = delta * (args.attack / delta.norm(dim=1, keepdim=True).clamp(min=1e-12)).clamp(max=1)
    return images + delta


for epoch in range(args.epochs):
    for images, labels in train:
        images = attacked(images, labels) if args.attack else images
        loss = F.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    total = right = 0
    with torch.no_grad():
        for images, labels in test:
            out = model(images)
            total += F.cross_entropy(out, labels, reduction="sum").item()
            right += (out.argmax(1) == labels).sum().item()
    count = len(test.dataset)
    print(f"epoch {epoch} loss {loss.item():.4f} test loss {total / count:.4f} acc {right / count:.4f}")
images = pictures[cut:].requires_grad_()
(slope,) = torch.autograd.grad(F.cross_entropy(model(images), y[cut:], reduction="sum"), images)
halves = slope.abs().view(-1, 2, 28 * 28).sum(2)
mass = torch.where(on_top[cut:], halves[:, 0], halves[:, 1]) / halves.sum(1).clamp(min=1e-30)
print(f"accuracy: {right / count}")
print(f"gradient on the digit: {mass[halves.sum(1) > 0].mean().item()}")
