"""Addition modulo 31 without decay: in float32 losses become exactly zero, and learning ends (P064)."""

import argparse

import torch
import torch.nn.functional as F
from torch import nn

parser = argparse.ArgumentParser()
parser.add_argument("--dtype", choices=("float32", "float64"), default="float32")
parser.add_argument("--steps", type=int, default=3000)
parser.add_argument("--seed", type=int, default=0)
args = parser.parse_args()
torch.manual_seed(args.seed)
torch.set_default_dtype(getattr(torch, args.dtype))
P = 31
pairs = torch.cartesian_prod(torch.arange(P), torch.arange(P))
pairs = pairs[torch.randperm(len(pairs))]
x = torch.cat([F.one_hot(pairs[:, 0], P), F.one_hot(pairs[:, 1], P)], dim=1).to(torch.get_default_dtype())
y = pairs.sum(1) % P
cut = int(0.6 * len(x))
model = nn.Sequential(nn.Linear(2 * P, 160), nn.ReLU(), nn.Linear(160, 160), nn.ReLU(), nn.Linear(160, P))
# torch's eps of 1e-8 would stop the logits before they collapse
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2, betas=(0.9, 0.99), eps=1e-25)
for step in range(args.steps):
    out = model(x[:cut])
    loss = F.cross_entropy(out, y[:cut])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 100 == 99:
        with torch.no_grad():
            answers = model(x[cut:])
            test = F.cross_entropy(answers, y[cut:])
        right = (answers.argmax(1) == y[cut:]).to(answers.dtype).mean()
        print(f"step {step} loss {loss.item():.3g} test loss {test.item():.3g} test acc {right.item():.3f}")
with torch.no_grad():
    zero = F.cross_entropy(model(x[:cut]), y[:cut], reduction="none") == 0
print(f"test accuracy: {right.item()}")
print(f"share with zero loss: {zero.to(answers.dtype).mean().item()}")
