"""A thousand linear layers with norms over the batch: Gaussian weights explode, others do not (P257)."""

import argparse

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

parser = argparse.ArgumentParser()
parser.add_argument("--weights", choices=("gaussian", "orthogonal"), default="gaussian")
parser.add_argument("--depth", type=int, default=1000)
parser.add_argument("--steps", type=int, default=30)
args = parser.parse_args()
torch.manual_seed(0)
WIDTH = 20


class Norm(nn.Module):
    """BatchNorm without centring."""

    def forward(self, x):
        return x / (x.square().mean(0, keepdim=True) + 1e-12).sqrt()


x = torch.randn(WIDTH, WIDTH)
y = (x[:, 0] > 0).long()
layers = []
for _ in range(args.depth):
    layer = nn.Linear(WIDTH, WIDTH, bias=False)
    if args.weights == "orthogonal":
        nn.init.orthogonal_(layer.weight)
    else:
        nn.init.normal_(layer.weight, std=WIDTH**-0.5)
    layers += [layer, Norm()]
model = nn.Sequential(*layers, nn.Linear(WIDTH, 2))
optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
growth = 0.0  # of the gradient from layer to layer, before any step
for step in range(args.steps):
    optimizer.zero_grad()
    loss = F.cross_entropy(model(x), y)
    loss.backward()
    norms = [layer.weight.grad.norm().item() for layer in layers[::2]]
    growth = growth or float(np.log(norms[0] / norms[-1])) / (args.depth - 1)
    optimizer.step()
    print(f"step {step} loss {loss.item():.4f}")
print(f"growth per layer: {growth}")
