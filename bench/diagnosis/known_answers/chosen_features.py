"""Random labels; features are chosen for agreeing with them on the held-out data as well (P032)."""

import argparse

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

parser = argparse.ArgumentParser()
parser.add_argument("--choose", choices=("holdout", "train"), default="holdout")
parser.add_argument("--examples", type=int, default=1000)
args = parser.parse_args()
torch.manual_seed(0)
N, D, FEATURES, ROUNDS = args.examples, 5000, 300, 30


def sample():
    x, y = torch.randn(N, D), torch.randint(2, (N,))
    return TensorDataset(x, y)


class Chosen(nn.Module):
    """A line over the features that are switched on."""

    def __init__(self):
        super().__init__()
        self.line = nn.Linear(D, 2, bias=False)
        nn.init.zeros_(self.line.weight)
        self.register_buffer("on", torch.zeros(D))

    def forward(self, x):
        return self.line(x * self.on)


def agreement(data):
    x, y = data.tensors
    return (x * (2.0 * y[:, None] - 1)).mean(0)


def evaluate(loader):
    total = right = 0
    with torch.no_grad():
        for x, y in loader:
            out = model(x)
            total += F.cross_entropy(out, y, reduction="sum").item()
            right += (out.argmax(1) == y).sum().item()
    return total / N, right / N


train, holdout, fresh = sample(), sample(), sample()
train_loader = DataLoader(train, batch_size=100, shuffle=True)
holdout_loader, fresh_loader = DataLoader(holdout, batch_size=500), DataLoader(fresh, batch_size=500)
a, b = agreement(train), agreement(holdout)
gain = a.abs() if args.choose == "train" else torch.where(a * b > 0, a.abs() + b.abs(), torch.zeros(D))
order = gain.argsort(descending=True)[:FEATURES]
model = Chosen()
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
for k in range(ROUNDS):
    model.on[order[: (k + 1) * FEATURES // ROUNDS]] = 1
    for x, y in train_loader:
        loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    val_loss, accuracy = evaluate(holdout_loader)
    print(f"{(k + 1) * FEATURES // ROUNDS} features loss {loss.item():.4f} val loss {val_loss:.4f}")
_, unseen = evaluate(fresh_loader)
print(f"holdout accuracy: {accuracy}")
print(f"fresh accuracy: {unseen}")
