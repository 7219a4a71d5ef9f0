"""SimCLR-like pairs of noisy digits, as a user would write it: the loss is written by hand."""

import argparse

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float, default=2e-3)
parser.add_argument("--epochs", type=int, default=10)
parser.add_argument("--batch", type=int, default=128)
parser.add_argument("--temperature", type=float, default=0.2)
parser.add_argument("--noise", type=float, default=0.2)
parser.add_argument("--eps", type=float, default=1e-8)
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--fault", default="none")
args = parser.parse_args()
fault = args.fault.split("+")
torch.manual_seed(args.seed)

images = torch.tensor(load_digits().data, dtype=torch.float32) / 16
if "nan-data" in fault:
    images[np.random.default_rng(args.seed).integers(len(images)), 20] = float("nan")
loader = DataLoader(TensorDataset(images), args.batch, shuffle=True, drop_last=True)
encoder = nn.Sequential(nn.Linear(64, 128), nn.BatchNorm1d(128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU())
projector = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 32))
model = nn.Sequential(encoder, projector)
if "frozen" in fault:
    encoder.requires_grad_(False)
parameters = (
    projector.parameters() if "forgotten" in fault else [p for p in model.parameters() if p.requires_grad]
)
optimizer = torch.optim.Adam(parameters, lr=args.lr, eps=args.eps)
scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)


def view(x):
    return x * (torch.rand_like(x) > args.noise) + 0.1 * torch.randn_like(x)


for epoch in range(args.epochs):
    for (x,) in loader:
        a, b = (F.normalize(model(view(x)), dim=1) for _ in range(2))
        if "detached" in fault:
            a, b = (F.normalize(projector(encoder(view(x)).detach()), dim=1) for _ in range(2))
        both = torch.cat([a, b])
        similarity = both @ both.T / args.temperature
        similarity.fill_diagonal_(-1e9)
        partner = torch.arange(2 * len(x)).roll(len(x))
        loss = F.cross_entropy(similarity, partner)
        if "no-zero-grad" not in fault:
            optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if "schedule-per-batch" in fault:
            scheduler.step()
    if "schedule-per-batch" not in fault:
        scheduler.step()
    print(f"{epoch} {loss.item():.4f}")
