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
args = parser.parse_args()
fault = args.fault
torch.manual_seed(args.seed)
draw = np.random.default_rng(args.seed)

x, y = mnist()
x = x if fault == "raw-inputs" else x / 255
x_train, y_train, x_test, y_test = x[: args.train].copy(), y[: args.train].copy(), x[4000:], y[4000:]
if fault == "shuffled-labels":
    y_train = draw.permutation(y_train)
if fault == "label-noise":
    wrong = draw.random(len(y_train)) < 0.4
    y_train[wrong] = (y_train[wrong] + draw.integers(1, 10, wrong.sum())) % 10
if fault == "nan-data":
    x_train[draw.integers(len(x_train)), 300] = np.nan
if fault == "sorted":
    order = np.argsort(y_train, kind="stable")
    x_train, y_train = x_train[order], y_train[order]
if fault == "imbalance":
    keep = (y_train == 0) | (draw.random(len(y_train)) < 0.02)
    x_train, y_train = x_train[keep], y_train[keep]
if fault == "duplicates":
    x_train[len(x_train) // 5 :] = np.resize(x_train[: len(x_train) // 5], x_train[len(x_train) // 5 :].shape)
    y_train[len(y_train) // 5 :] = np.resize(y_train[: len(y_train) // 5], y_train[len(y_train) // 5 :].shape)
if fault == "leakage":
    x_test, y_test = x_train[:1000], y_train[:1000]
train = TensorDataset(torch.from_numpy(x_train), torch.from_numpy(y_train))
test = TensorDataset(torch.from_numpy(x_test), torch.from_numpy(y_test))
train_loader = DataLoader(train, batch_size=args.batch, shuffle=fault != "sorted")
test_loader = DataLoader(test, batch_size=500)

activation = nn.Sigmoid if fault == "deep-sigmoid" else nn.ReLU
depth = 10 if fault == "deep-sigmoid" else args.depth
layers: list[nn.Module] = []
size = 784
for _ in range(depth):
    layers += [nn.Linear(size, args.width), activation()]
    if args.dropout:
        layers.append(nn.Dropout(args.dropout))
    size = args.width
layers.append(nn.Linear(size, 10))
if fault == "double-softmax":
    layers.append(nn.Softmax(dim=1))
model = nn.Sequential(*layers)
with torch.no_grad():
    for module in model:
        if isinstance(module, nn.Linear):
            if fault == "dead-relu" and module.out_features != 10:
                module.bias.fill_(-4.0)
            if fault == "same-init":
                module.weight.fill_(0.01)
                module.bias.zero_()
            if fault == "large-init":
                module.weight.normal_(0, 1.0)
if fault == "frozen":
    model[0].weight.requires_grad_(False)
trained = (
    model[2:].parameters() if fault == "forgotten" else (p for p in model.parameters() if p.requires_grad)
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
scheduler = schedules["exponential" if fault == "schedule-per-batch" else args.schedule]()

for epoch in range(args.epochs):
    model.train()
    for i, (images, labels) in enumerate(train_loader):
        output = model(images.detach() if fault != "detached" else images)
        if fault == "detached":
            hidden = model[:-1](images).detach()
            output = model[-1](hidden)
        loss = F.cross_entropy(output, labels)
        (loss / args.accumulate).backward()
        if args.clip:
            nn.utils.clip_grad_norm_(model.parameters(), args.clip)
        if (i + 1) % args.accumulate == 0:
            optimizer.step()
            if fault != "no-zero-grad":
                optimizer.zero_grad()
        if fault == "schedule-per-batch":
            scheduler.step()
    if fault != "schedule-per-batch":
        scheduler.step()
    if fault != "eval-mode":
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
