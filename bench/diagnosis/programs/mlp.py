"""A fully connected net on handwritten digits, as a user would write it."""

import argparse

import numpy as np
import torch
import torch.nn.functional as F
from mnist import mnist
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float, default=0.1)
parser.add_argument("--epochs", type=int, default=6)
parser.add_argument("--batch", type=int, default=64)
parser.add_argument("--width", type=int, default=128)
parser.add_argument("--depth", type=int, default=2)
parser.add_argument("--dropout", type=float, default=0.0)
parser.add_argument("--optimizer", default="sgd")
parser.add_argument("--momentum", type=float, default=0.0)
parser.add_argument("--weight-decay", type=float, default=0.0)
parser.add_argument("--eps", type=float, default=1e-8)
parser.add_argument("--clip", type=float, default=0.0)
parser.add_argument("--schedule", default="none")
parser.add_argument("--accumulate", type=int, default=1)
parser.add_argument("--train", type=int, default=4000)
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--fault", default="none")
parser.add_argument("--strength", type=float, default=1.0)
args = parser.parse_args()
fault = args.fault.split("+")
torch.manual_seed(args.seed)
draw = np.random.default_rng(args.seed)

x, y = mnist()
x = x if "raw-inputs" in fault else x / 255
x_train, y_train, x_test, y_test = x[: args.train].copy(), y[: args.train].copy(), x[4000:], y[4000:]
if "shuffled-labels" in fault:
    y_train = draw.permutation(y_train)
if "label-noise" in fault:
    wrong = draw.random(len(y_train)) < 0.4 * args.strength
    y_train[wrong] = (y_train[wrong] + draw.integers(1, 10, wrong.sum())) % 10
if "nan-data" in fault:
    x_train[draw.integers(len(x_train)), 300] = np.nan
if "sorted" in fault:
    order = np.argsort(y_train, kind="stable")
    x_train, y_train = x_train[order], y_train[order]
if "imbalance" in fault:
    keep = (y_train == 0) | (draw.random(len(y_train)) < 0.02 / args.strength)
    x_train, y_train = x_train[keep], y_train[keep]
if "duplicates" in fault:
    own = round(len(x_train) / (5 * args.strength))
    x_train[own:] = np.resize(x_train[:own], x_train[own:].shape)
    y_train[own:] = np.resize(y_train[:own], y_train[own:].shape)
if "leakage" in fault:
    count = min(round(len(x_test) * args.strength), len(x_train))
    x_test[:count], y_test[:count] = x_train[:count], y_train[:count]
train = TensorDataset(torch.from_numpy(x_train), torch.from_numpy(y_train))
test = TensorDataset(torch.from_numpy(x_test), torch.from_numpy(y_test))
train_loader = DataLoader(train, batch_size=args.batch, shuffle="sorted" not in fault)
test_loader = DataLoader(test, batch_size=500)

activation = nn.Sigmoid if "deep-sigmoid" in fault else nn.Tanh if "saturated" in fault else nn.ReLU
depth = round(10 * args.strength) if "deep-sigmoid" in fault else args.depth
layers: list[nn.Module] = []
size = 784
for _ in range(depth):
    layers += [nn.Linear(size, args.width), activation()]
    if args.dropout:
        layers.append(nn.Dropout(args.dropout))
    size = args.width
layers.append(nn.Linear(size, 10))
if "double-softmax" in fault:
    layers.append(nn.Softmax(dim=1))
model = nn.Sequential(*layers)
with torch.no_grad():
    for module in model:
        if isinstance(module, nn.Linear):
            if "dead-relu" in fault and module.out_features != 10:
                module.bias.fill_(-4.0 * args.strength)
            if "same-init" in fault:
                module.weight.fill_(0.01)
                module.bias.zero_()
            if {"large-init", "saturated"} & {*fault}:
                module.weight.normal_(0, args.strength)
if "low-precision" in fault:
    model = model.bfloat16()
    train = TensorDataset(torch.from_numpy(x_train).bfloat16(), torch.from_numpy(y_train))
    test = TensorDataset(torch.from_numpy(x_test).bfloat16(), torch.from_numpy(y_test))
    train_loader, test_loader = DataLoader(train, args.batch, shuffle=True), DataLoader(test, 500)
if "frozen" in fault:
    model[0].weight.requires_grad_(False)
trained = (
    model[2:].parameters() if "forgotten" in fault else (p for p in model.parameters() if p.requires_grad)
)
kinds = {
    "sgd": lambda p: torch.optim.SGD(p, args.lr, momentum=args.momentum, weight_decay=args.weight_decay),
    "adam": lambda p: torch.optim.Adam(p, args.lr, eps=args.eps, weight_decay=args.weight_decay),
    "adamw": lambda p: torch.optim.AdamW(p, args.lr, eps=args.eps, weight_decay=args.weight_decay),
    "rmsprop": lambda p: torch.optim.RMSprop(p, args.lr, weight_decay=args.weight_decay),
}
optimizer = kinds[args.optimizer](trained)
schedules = {
    "none": lambda: torch.optim.lr_scheduler.ConstantLR(optimizer, 1.0),
    "cosine": lambda: torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, args.epochs),
    "exponential": lambda: torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.8),
    "step": lambda: torch.optim.lr_scheduler.StepLR(optimizer, 2, 0.3),
    "warmup": lambda: torch.optim.lr_scheduler.LinearLR(optimizer, 0.1, 1.0, 2),
}
scheduler = schedules["exponential" if "schedule-per-batch" in fault else args.schedule]()

for epoch in range(args.epochs):
    model.train()
    for i, (images, labels) in enumerate(train_loader):
        output = model(images.detach() if "detached" not in fault else images)
        if "detached" in fault:
            hidden = model[:-1](images).detach()
            output = model[-1](hidden)
        loss = F.cross_entropy(output, labels)
        (loss / args.accumulate).backward()
        if args.clip:
            nn.utils.clip_grad_norm_(model.parameters(), args.clip)
        if (i + 1) % args.accumulate == 0:
            optimizer.step()
            if "no-zero-grad" not in fault:
                optimizer.zero_grad()
        if "schedule-per-batch" in fault:
            scheduler.step()
    if "schedule-per-batch" not in fault:
        scheduler.step()
    if "eval-mode" not in fault:
        model.eval()
    total, right = 0.0, 0
    with torch.no_grad():
        for images, labels in test_loader:
            output = model(images)
            total += F.cross_entropy(output, labels, reduction="sum").item()
            right += (output.argmax(1) == labels).sum().item()
    print(
        f"epoch {epoch} loss {loss.item():.4f} test loss {total / len(test):.4f} accuracy {right / len(test):.4f}"  # noqa: E501
    )
