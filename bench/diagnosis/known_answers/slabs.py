"""One coordinate that a line separates, nineteen of five slabs, each fully predictive, all turned (P071)."""

import argparse

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

parser = argparse.ArgumentParser()
parser.add_argument("--line", choices=("true", "noise"), default="true")
parser.add_argument("--epochs", type=int, default=8)
args = parser.parse_args()
torch.manual_seed(0)
D, MARGIN = 20, 0.1
turn = torch.linalg.qr(torch.randn(D, D))[0]


def draw(count):
    """Coordinate 0: the sign says the class. The others: the middle and the outer slabs are class 1."""
    y = torch.randint(2, (count,))
    sign = y * 2.0 - 1
    if args.line == "noise":
        sign = torch.randint(2, (count,)) * 2.0 - 1
    x = torch.empty(count, D)
    x[:, 0] = sign * (MARGIN + (1 - MARGIN) * torch.rand(count))
    outer = torch.randint(2, (count, D - 1)) * 2 - 1  # left or right
    middle = torch.rand(count, D - 1) < 1 / 3
    slab = torch.where(y[:, None] == 1, torch.where(middle, 0, 2 * outer), outer)
    x[:, 1:] = (slab + (1 - MARGIN) * (torch.rand(count, D - 1) - 0.5)) / 2.5
    return x, y


def accuracy(x, y):
    with torch.no_grad():
        return (model(x @ turn.T).argmax(1) == y).float().mean().item()


x, y = draw(40_000)
x_test, y_test = draw(4_000)
train = DataLoader(TensorDataset(x @ turn.T, y), batch_size=256, shuffle=True)
test = DataLoader(TensorDataset(x_test @ turn.T, y_test), batch_size=1000)
model = nn.Sequential(nn.Linear(D, 100), nn.ReLU(), nn.Linear(100, 100), nn.ReLU(), nn.Linear(100, 2))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
for epoch in range(args.epochs):
    for xb, yb in train:
        loss = F.cross_entropy(model(xb), yb)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        losses = [F.cross_entropy(model(xb), yb).item() for xb, yb in test]
    print(f"epoch {epoch} loss {loss.item():.4f} val loss {sum(losses) / len(losses):.4f}")
other = torch.randperm(len(x_test))
line, slabs = x_test.clone(), x_test.clone()
line[:, 0], slabs[:, 1:] = x_test[other, 0], x_test[other, 1:]
print(f"accuracy: {accuracy(x_test, y_test)}")
print(f"accuracy with the line shuffled: {accuracy(line, y_test)}")
print(f"accuracy with the slabs shuffled: {accuracy(slabs, y_test)}")
