"""A small residual net on 8x8 digits, as a user would write it: SGD with momentum, cosine schedule."""

import argparse

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, random_split

parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float, default=0.05)
parser.add_argument("--epochs", type=int, default=8)
parser.add_argument("--batch-size", type=int, default=64)
parser.add_argument("--width", type=int, default=16)
parser.add_argument("--blocks", type=int, default=3)
parser.add_argument("--weight-decay", type=float, default=5e-4)
parser.add_argument("--optimizer", default="sgd")
parser.add_argument("--smoothing", type=float, default=0.0)
parser.add_argument("--schedule", default="cosine")
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--fault", default="none")
parser.add_argument("--strength", type=float, default=1.0)
args = parser.parse_args()
fault = args.fault.split("+")
torch.manual_seed(args.seed)
draw = np.random.default_rng(args.seed)


class Residual(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.conv1, self.conv2 = (nn.Conv2d(width, width, 3, padding=1, bias=False) for _ in range(2))
        self.bn1, self.bn2 = nn.BatchNorm2d(width), nn.BatchNorm2d(width)

    def forward(self, x):
        return F.relu(x + self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))))


class ResNet(nn.Module):
    def __init__(self, width, blocks):
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(1, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()
        )
        self.blocks = nn.Sequential(*(Residual(width) for _ in range(blocks)))
        self.classifier = nn.Linear(width * 4, 10)

    def forward(self, x):
        x = self.blocks(self.stem(x))
        x = F.adaptive_avg_pool2d(x.detach() if "detached" in fault else x, 2).flatten(1)
        logits = self.classifier(x)
        return F.softmax(logits, dim=1) if "double-softmax" in fault else logits


images, labels = load_digits(return_X_y=True)
x = torch.tensor(images, dtype=torch.float32).view(-1, 1, 8, 8) / 8 - 1
y = torch.tensor(labels)
dataset = TensorDataset(x, y)
train_set, test_set = random_split(dataset, [1300, len(dataset) - 1300], torch.Generator().manual_seed(0))
rows = torch.tensor(train_set.indices)
if "shuffled-labels" in fault:
    y[rows] = y[rows[torch.randperm(len(rows))]]
if "label-noise" in fault:
    wrong = rows[torch.rand(len(rows)) < 0.4 * args.strength]
    y[wrong] = (y[wrong] + torch.randint(1, 10, wrong.shape)) % 10
if "nan-data" in fault:
    x[rows[draw.integers(len(rows))], 0, 4, 4] = float("nan")
if "sorted" in fault:
    train_set.indices = rows[y[rows].argsort(stable=True)].tolist()
if "leakage" in fault:
    count = round(400 * args.strength)
    test_set.indices = train_set.indices[:count] + test_set.indices[count:400]
loader = DataLoader(train_set, args.batch_size, shuffle="sorted" not in fault, drop_last=True)
test_loader = DataLoader(test_set, 256)
model = ResNet(args.width, args.blocks)
if "frozen" in fault:
    model.stem.requires_grad_(False)
parameters = model.blocks.parameters() if "forgotten" in fault else model.parameters()
if args.optimizer == "adam":
    optimizer = torch.optim.Adam(parameters, lr=args.lr)
else:
    optimizer = torch.optim.SGD(
        parameters, lr=args.lr, momentum=0.9, weight_decay=args.weight_decay, nesterov=True
    )
if args.schedule == "cosine":
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, args.epochs)
else:
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 3, gamma=0.3)

for epoch in range(args.epochs):
    model.train()
    if "eval-mode" in fault:
        model.eval()
    for data, target in loader:
        if "no-zero-grad" not in fault:
            optimizer.zero_grad(set_to_none=True)
        loss = F.cross_entropy(model(data), target, label_smoothing=args.smoothing)
        loss.backward()
        optimizer.step()
        if "schedule-per-batch" in fault:
            scheduler.step()
    if "schedule-per-batch" not in fault:
        scheduler.step()
    if "eval-forgotten" not in fault:
        model.eval()
    correct, total_loss = 0, 0.0
    with torch.no_grad():
        for data, target in test_loader:
            output = model(data)
            total_loss += F.cross_entropy(output, target, reduction="sum").item()
            correct += (output.argmax(1) == target).sum().item()
    print(f"{epoch} {loss.item():.4f} {total_loss / len(test_set):.4f} {correct / len(test_set):.3f}")
