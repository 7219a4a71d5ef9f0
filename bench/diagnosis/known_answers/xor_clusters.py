"""XOR of four clusters, a tenth of the labels flipped, full batches (P018)."""

import argparse

import torch
import torch.nn.functional as F
from torch import nn

parser = argparse.ArgumentParser()
parser.add_argument("--model", choices=("relu", "logistic"), default="relu")
parser.add_argument("--flip", type=float, default=0.1)
parser.add_argument("--steps", type=int, default=12)
args = parser.parse_args()
torch.manual_seed(0)
P, MU, WIDTH = 20_000, 30.0, 500


def draw(count):
    axis, sign = torch.randint(2, (count,)), torch.randint(2, (count,)) * 2.0 - 1
    x = torch.randn(count, P)
    x[torch.arange(count), axis] += MU * sign
    return x, axis.float()


class Net(nn.Module):
    """Only the first layer is trained, from nearly nothing."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(P, WIDTH, bias=False)
        nn.init.normal_(self.first.weight, std=1e-5)
        self.register_buffer("signs", (torch.randint(2, (WIDTH,)) * 2.0 - 1) / WIDTH**0.5)

    def forward(self, x):
        return F.relu(self.first(x)) @ self.signs


x, y = draw(200)
x_test, y_test = draw(500)
flipped = torch.rand(200) < args.flip
y[flipped] = 1 - y[flipped]
model = Net() if args.model == "relu" else nn.Sequential(nn.Linear(P, 1, bias=False), nn.Flatten(0))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for step in range(1, args.steps + 1):
    loss = F.binary_cross_entropy_with_logits(model(x), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    with torch.no_grad():
        fitted = ((model(x) > 0) == (y > 0)).float().mean().item()
        out = model(x_test)
        F.binary_cross_entropy_with_logits(out, y_test)
        right = ((out > 0) == (y_test > 0)).float().mean().item()
    print(f"train accuracy after {step}: {fitted}")
    print(f"test accuracy after {step}: {right}")
