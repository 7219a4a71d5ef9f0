"""A small convolutional net with BatchNorm on handwritten digits, as a user would write it."""

import argparse

import numpy as np
import torch
from mnist import mnist
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float, default=1e-3)
parser.add_argument("--epochs", type=int, default=4)
parser.add_argument("--batch", type=int, default=64)
parser.add_argument("--channels", type=int, default=8)
parser.add_argument("--dropout", type=float, default=0.0)
parser.add_argument("--optimizer", default="adam")
parser.add_argument("--weight-decay", type=float, default=0.0)
parser.add_argument("--eps", type=float, default=1e-8)
parser.add_argument("--clip", type=float, default=0.0)
parser.add_argument("--schedule", default="none")
parser.add_argument("--train", type=int, default=3000)
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--fault", default="none")
parser.add_argument("--strength", type=float, default=1.0)
args = parser.parse_args()
fault = args.fault.split("+")
torch.manual_seed(args.seed)
draw = np.random.default_rng(args.seed)

x, y = mnist()
x = x.reshape(-1, 1, 28, 28) if "raw-inputs" in fault else (x.reshape(-1, 1, 28, 28) / 255 - 0.13) / 0.31
x_train, y_train, x_test, y_test = x[: args.train].copy(), y[: args.train].copy(), x[4000:], y[4000:]
if "shuffled-labels" in fault:
    y_train = draw.permutation(y_train)
if "label-noise" in fault:
    wrong = draw.random(len(y_train)) < 0.4 * args.strength
    y_train[wrong] = (y_train[wrong] + draw.integers(1, 10, wrong.sum())) % 10
if "nan-data" in fault:
    x_train[draw.integers(len(x_train)), 0, 14, 14] = np.nan
if "sorted" in fault:
    order = np.argsort(y_train, kind="stable")
    x_train, y_train = x_train[order], y_train[order]
if "imbalance" in fault:
    keep = (y_train == 0) | (draw.random(len(y_train)) < 0.02 / args.strength)
    x_train, y_train = x_train[keep], y_train[keep]
train_set = TensorDataset(torch.from_numpy(x_train), torch.from_numpy(y_train))
test_set = TensorDataset(torch.from_numpy(x_test), torch.from_numpy(y_test))
train_loader = DataLoader(train_set, args.batch, shuffle="sorted" not in fault)
test_loader = DataLoader(test_set, 250)


class Net(nn.Module):
    def __init__(self, c: int):
        super().__init__()
        act = nn.Sigmoid() if "deep-sigmoid" in fault else nn.ReLU()
        norm = (lambda n: nn.Identity()) if {"deep-sigmoid", "dead-relu"} & {*fault} else nn.BatchNorm2d
        self.conv1 = nn.Conv2d(1, c, 3, padding=1)
        self.bn1 = norm(c)
        self.conv2 = nn.Conv2d(c, 2 * c, 3, padding=1)
        self.bn2 = norm(2 * c)
        self.act = act
        self.pool = nn.MaxPool2d(2)
        extra = round(8 * args.strength) if "deep-sigmoid" in fault else 0
        self.extra = nn.Sequential(
            *(m for _ in range(extra) for m in (nn.Conv2d(2 * c, 2 * c, 3, padding=1), act))
        )
        self.drop = nn.Dropout(args.dropout)
        self.fc = nn.Linear(2 * c * 49, 10)

    def forward(self, x):
        x = self.pool(self.act(self.bn1(self.conv1(x))))
        if "detached" in fault:
            x = x.detach()
        x = self.pool(self.act(self.bn2(self.conv2(x))))
        x = self.fc(self.drop(self.extra(x).flatten(1)))
        return x.softmax(1) if "double-softmax" in fault else x


model = Net(args.channels)
with torch.no_grad():
    for module in model.modules():
        if "dead-relu" in fault and isinstance(module, nn.Conv2d):
            module.bias.fill_(-8.0 * args.strength)
        if "large-init" in fault and isinstance(module, (nn.Conv2d, nn.Linear)):
            module.weight.normal_(0, 2.0 * args.strength)
if "frozen" in fault:
    model.conv2.weight.requires_grad_(False)
trained = [
    p
    for n, p in model.named_parameters()
    if p.requires_grad and not ("forgotten" in fault and n.startswith("conv1"))
]
if args.optimizer == "sgd":
    optimizer = torch.optim.SGD(trained, args.lr, momentum=0.9, weight_decay=args.weight_decay)
else:
    optimizer = torch.optim.AdamW(trained, args.lr, eps=args.eps, weight_decay=args.weight_decay)
scheduler = torch.optim.lr_scheduler.StepLR(
    optimizer, 1, 0.7 if "schedule-per-batch" in fault or args.schedule == "step" else 1.0
)
criterion = nn.CrossEntropyLoss()

for epoch in range(args.epochs):
    if "eval-mode" not in fault or epoch == 0:
        model.train()
    for images, labels in train_loader:
        if "no-zero-grad" not in fault:
            optimizer.zero_grad()
        loss = criterion(model(images), labels)
        loss.backward()
        if args.clip:
            nn.utils.clip_grad_norm_(model.parameters(), args.clip)
        optimizer.step()
        if "schedule-per-batch" in fault:
            scheduler.step()
    if "schedule-per-batch" not in fault:
        scheduler.step()
    model.eval()
    with torch.no_grad():
        outputs = [
            (criterion(out, labels).item(), (out.argmax(1) == labels).float().mean().item())
            for images, labels in test_loader
            for out in [model(images)]
        ]
    test_loss, accuracy = np.mean(outputs, axis=0)
    print(f"epoch {epoch}: train {loss.item():.4f}, test {test_loss:.4f}, accuracy {accuracy:.3f}")
