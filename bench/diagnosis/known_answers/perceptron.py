"""A perceptron trained to zero hinge loss by small batches: the temperature is rate over batch (P028)."""

import argparse

import torch
from torch import nn

parser = argparse.ArgumentParser()
parser.add_argument("--temperature", type=float, default=1.0)
parser.add_argument("--examples", type=int, default=1000)
parser.add_argument("--batch", type=int, default=16)
parser.add_argument("--most", type=int, default=100_000)
args = parser.parse_args()
torch.manual_seed(0)
D = 32
x = torch.randn(args.examples, D)
y = x[:, 0].sign()
x[:, 0] = y * x[:, 0].abs().sqrt()  # few examples lie near the boundary
model = nn.Linear(D, 1, bias=False)
nn.init.zeros_(model.weight)
optimizer = torch.optim.SGD(model.parameters(), lr=args.temperature * args.batch)
for step in range(args.most):
    if step % 10 == 0:
        with torch.no_grad():
            if (y * model(x / D**0.5)[:, 0]).min() >= 1:
                break
    rows = torch.randint(args.examples, (args.batch,))
    loss = (1 - y[rows] * model(x[rows] / D**0.5)[:, 0]).clamp(min=0).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
print(f"signal: {model.weight[0, 0].abs().item()}")
print(f"time: {step * optimizer.param_groups[0]['lr']}")
print(f"steps: {step}")
