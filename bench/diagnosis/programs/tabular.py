"""Regression on the diabetes table with a small net, as a user would write it."""

import argparse

import numpy as np
import torch
from sklearn.datasets import load_diabetes
from sklearn.preprocessing import StandardScaler
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float, default=3e-3)
parser.add_argument("--epochs", type=int, default=20)
parser.add_argument("--batch", type=int, default=16)
parser.add_argument("--width", type=int, default=16)
parser.add_argument("--dropout", type=float, default=0.0)
parser.add_argument("--optimizer", default="adam")
parser.add_argument("--weight-decay", type=float, default=1e-3)
parser.add_argument("--eps", type=float, default=1e-8)
parser.add_argument("--schedule", default="none")
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--fault", default="none")
parser.add_argument("--strength", type=float, default=1.0)
args = parser.parse_args()
fault = args.fault.split("+")
torch.manual_seed(args.seed)
draw = np.random.default_rng(args.seed)

table, target = load_diabetes(return_X_y=True)
x = StandardScaler().fit_transform(table).astype(np.float32)
if "raw-inputs" in fault:
    x = (x * np.logspace(0, 4, x.shape[1]) + np.logspace(0, 4, x.shape[1])).astype(np.float32)
y = ((target - target.mean()) / target.std()).astype(np.float32)[:, None]
if "target-scale" in fault:
    y = (args.strength * (1000 * target + 50000)).astype(np.float32)[:, None]
order = np.random.default_rng(0).permutation(len(x))
x, y = x[order], y[order]
x_train, y_train, x_valid, y_valid = x[:352].copy(), y[:352].copy(), x[352:], y[352:]
if "shuffled-labels" in fault:
    y_train = draw.permutation(y_train)
if "nan-data" in fault:
    x_train[draw.integers(len(x_train)), 3] = np.nan
if "outliers" in fault:
    y_train[::40] = 50 * args.strength
if "sorted" in fault:
    rank = np.argsort(y_train[:, 0])
    x_train, y_train = x_train[rank], y_train[rank]
train = DataLoader(
    TensorDataset(torch.from_numpy(x_train), torch.from_numpy(y_train)),
    args.batch,
    shuffle="sorted" not in fault,
)
valid = TensorDataset(torch.from_numpy(x_valid), torch.from_numpy(y_valid))

kind, depth = (nn.Sigmoid, round(10 * args.strength)) if "deep-sigmoid" in fault else (nn.ReLU, 2)
layers, size = [], x.shape[1]
for _ in range(depth):
    layers += [nn.Linear(size, args.width), kind(), nn.Dropout(args.dropout)]
    size = args.width
model = nn.Sequential(*layers, nn.Linear(size, 1))
if "dead-relu" in fault:
    for layer in model[:-1]:
        if isinstance(layer, nn.Linear):
            nn.init.constant_(layer.bias, -6.0 * args.strength)
if "frozen" in fault:
    model[0].requires_grad_(False)
trained = (
    model[3:].parameters() if "forgotten" in fault else [p for p in model.parameters() if p.requires_grad]
)
if args.optimizer == "sgd":
    optimizer = torch.optim.SGD(trained, args.lr, momentum=0.9, weight_decay=args.weight_decay)
else:
    optimizer = torch.optim.Adam(trained, args.lr, eps=args.eps, weight_decay=args.weight_decay)
scheduler = torch.optim.lr_scheduler.ExponentialLR(
    optimizer, 0.85 if "schedule-per-batch" in fault else 0.95 if args.schedule == "exponential" else 1.0
)
criterion = nn.MSELoss()

for epoch in range(args.epochs):
    model.train()
    for inputs, targets in train:
        if "detached" in fault:
            prediction = model[-1](model[:-1](inputs).detach())
        else:
            prediction = model(inputs)
        loss = criterion(prediction, targets)
        if "no-zero-grad" not in fault:
            optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if "schedule-per-batch" in fault:
            scheduler.step()
    if "schedule-per-batch" not in fault:
        scheduler.step()
    model.eval()
    with torch.no_grad():
        held_out = criterion(model(valid.tensors[0]), valid.tensors[1])
    print(f"{epoch:3d} {loss.item():.4f} {held_out.item():.4f}")
