"""Least squares on Gaussian features of a power-law spectrum, whose every step is known (P229)."""

import argparse

import torch
import torch.nn.functional as F
from torch import nn

parser = argparse.ArgumentParser()
parser.add_argument("--batch", type=int, default=8)
parser.add_argument("--lr", type=float, default=0.1)
parser.add_argument("--steps", type=int, default=400)
parser.add_argument("--noise", type=float, default=0.25)
args = parser.parse_args()
torch.manual_seed(0)
D = 50
spectrum = torch.arange(1, D + 1) ** -1.5
model = nn.Linear(D, 1, bias=False)
nn.init.zeros_(model.weight)
optimizer = torch.optim.SGD(model.parameters(), lr=args.lr / 2)  # for half of the mean square


def draw(count):
    x = torch.randn(count, D) * spectrum.sqrt()
    return x, x.sum(1, keepdim=True) + args.noise**0.5 * torch.randn(count, 1)


for step in range(args.steps):
    x, y = draw(args.batch)
    loss = F.mse_loss(model(x), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 20 == 19:
        with torch.no_grad():
            excess = (spectrum * (model.weight[0] - 1) ** 2).sum().item()
        print(f"step {step} loss {loss.item():.4f} excess {excess:.4f}")
print(f"excess: {excess}")
