"""A sharp minimum within a wide one: which of the two is found says the step alone (P345)."""

import argparse

import torch

parser = argparse.ArgumentParser()
parser.add_argument("--sharpness", type=float, default=1.0, help="curvature times rate; 2 is the edge")
parser.add_argument("--steps", type=int, default=400)
args = parser.parse_args()
torch.manual_seed(0)
CURVATURE = 44.5  # of the sharp minimum, at 0, which is a quarter higher than the wide one at 5
WIDTH = (2 / (CURVATURE - 0.1)) ** 0.5


def height(x):
    return 0.05 * (x - 5) ** 2 - torch.exp(-((x / WIDTH) ** 2))


x = torch.nn.Parameter(WIDTH * (2 * torch.rand(60) - 1) / 2)  # sixty starts, each on its own
optimizer = torch.optim.SGD([x], lr=60 * args.sharpness / CURVATURE)
for _ in range(args.steps):
    optimizer.zero_grad()
    loss = height(x).mean()
    loss.backward()
    optimizer.step()
sharp = (x.detach().abs() < 2 * WIDTH).float().mean().item()
(slope,) = torch.autograd.grad(height(x).sum(), x)
print(f"share in the sharp minimum's basin: {sharp}")
print(f"share in the wide minimum: {((x.detach() - 5).abs() < 0.5).float().mean().item()}")
print(f"share at rest: {(slope.abs() < 1e-3).float().mean().item()}")
