"""Training against an attack of one step, from a random start, on digits (P069)."""

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
parser.add_argument("--epsilon", type=float, default=0.3)
parser.add_argument("--epochs", type=int, default=16)
args = parser.parse_args()
torch.manual_seed(0)
x, y = (torch.from_numpy(values) for values in mnist())
x = x / 255
loader = DataLoader(TensorDataset(x[:4000], y[:4000]), batch_size=64, shuffle=True)
x_test, y_test = x[4000:], y[4000:]
model = nn.Sequential(nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)


def attack(images, labels, steps, size, delta):
    for _ in range(steps):
        delta.requires_grad_()
        loss = F.cross_entropy(model(images + delta), labels, reduction="none")
        (slope,) = torch.autograd.grad(loss.sum(), delta)
        delta = (delta.detach() + size * slope.sign()).clamp(-args.epsilon, args.epsilon)
        delta = (images + delta).clamp(0, 1) - images
    return delta, loss.detach()


def robust(steps, size):
    start = torch.empty_like(x_test).uniform_(-args.epsilon, args.epsilon)
    delta, _ = attack(x_test, y_test, steps, size, start)
    with torch.no_grad():
        return (model(x_test + delta).argmax(1) == y_test).float().mean().item()


for epoch in range(args.epochs):
    abnormal = seen = 0
    for images, labels in loader:
        start = torch.empty_like(images).uniform_(-args.epsilon, args.epsilon)
        delta, before = attack(images, labels, 1, 1.25 * args.epsilon, start)
        losses = F.cross_entropy(model(images + delta), labels, reduction="none")
        optimizer.zero_grad()
        losses.mean().backward()
        optimizer.step()
        abnormal, seen = abnormal + (losses < before).sum().item(), seen + len(labels)
    fgsm, pgd = robust(1, args.epsilon), robust(10, args.epsilon / 4)
    print(f"epoch {epoch} abnormal {abnormal / seen:.4f} FGSM {fgsm:.3f} PGD-10 {pgd:.3f}")
print(f"abnormal share: {abnormal / seen}")
print(f"accuracy under one step: {fgsm}")
print(f"accuracy under ten steps: {pgd}")
