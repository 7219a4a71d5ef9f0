"""A GRU that reads handwritten digits row by row, as a user would write it."""

import argparse

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float, default=3e-3)
parser.add_argument("--epochs", type=int, default=10)
parser.add_argument("--batch", type=int, default=32)
parser.add_argument("--hidden", type=int, default=64)
parser.add_argument("--dropout", type=float, default=0.0)
parser.add_argument("--optimizer", default="adam")
parser.add_argument("--weight-decay", type=float, default=0.0)
parser.add_argument("--eps", type=float, default=1e-8)
parser.add_argument("--clip", type=float, default=5.0)
parser.add_argument("--schedule", default="none")
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--fault", default="none")
parser.add_argument("--strength", type=float, default=1.0)
args = parser.parse_args()
fault = args.fault.split("+")
torch.manual_seed(args.seed)
draw = np.random.default_rng(args.seed)

images, labels = load_digits(return_X_y=True)
sequences = images.reshape(-1, 8, 8).astype(np.float32)
sequences = sequences * 100 if "raw-inputs" in fault else sequences / 16
x_train, x_test, y_train, y_test = train_test_split(sequences, labels, test_size=0.25, random_state=0)
if "shuffled-labels" in fault:
    y_train = draw.permutation(y_train)
if "label-noise" in fault:
    wrong = draw.random(len(y_train)) < 0.4 * args.strength
    y_train[wrong] = (y_train[wrong] + draw.integers(1, 10, wrong.sum())) % 10
if "nan-data" in fault:
    x_train[draw.integers(len(x_train)), 4, 4] = np.nan
if "outliers" in fault:
    x_train[::200] *= 1e4 * args.strength
if "sorted" in fault:
    order = np.argsort(y_train, kind="stable")
    x_train, y_train = x_train[order], y_train[order]
train = DataLoader(
    TensorDataset(torch.tensor(x_train), torch.tensor(y_train)), args.batch, shuffle="sorted" not in fault
)
test = DataLoader(TensorDataset(torch.tensor(x_test), torch.tensor(y_test)), 256)


class Reader(nn.Module):
    def __init__(self):
        super().__init__()
        self.gru = nn.GRU(8, args.hidden, batch_first=True)
        self.drop = nn.Dropout(args.dropout)
        kind = nn.Sigmoid if "deep-sigmoid" in fault else nn.ReLU
        count = round(9 * args.strength) if "deep-sigmoid" in fault else 1
        self.hidden = nn.Sequential(
            *(m for _ in range(count) for m in (nn.Linear(args.hidden, args.hidden), kind()))
        )
        self.head = nn.Linear(args.hidden, 10)

    def forward(self, x):
        states, _ = self.gru(x)
        last = states[:, -1]
        out = self.head(self.hidden(self.drop(last.detach() if "detached" in fault else last)))
        return torch.softmax(out, dim=1) if "double-softmax" in fault else out


net = Reader()
if "dead-relu" in fault:
    nn.init.constant_(net.hidden[0].bias, -4.0 * args.strength)
if "frozen" in fault:
    net.gru.weight_hh_l0.requires_grad_(False)
trained = [
    p
    for n, p in net.named_parameters()
    if p.requires_grad and not ("forgotten" in fault and n.startswith("gru"))
]
if args.optimizer == "sgd":
    opt = torch.optim.SGD(trained, lr=args.lr, momentum=0.9, weight_decay=args.weight_decay)
else:
    opt = torch.optim.Adam(trained, lr=args.lr, eps=args.eps, weight_decay=args.weight_decay)
milestones = torch.optim.lr_scheduler.MultiStepLR(opt, [6, 8], gamma=0.1 if args.schedule == "steps" else 1.0)
if "schedule-per-batch" in fault:
    milestones = torch.optim.lr_scheduler.MultiStepLR(opt, [6, 8], gamma=0.05)
loss_function = nn.CrossEntropyLoss()

for epoch in range(args.epochs):
    net.train()
    for sequence, digit in train:
        if "no-zero-grad" not in fault:
            opt.zero_grad()
        loss = loss_function(net(sequence), digit)
        loss.backward()
        if args.clip:
            torch.nn.utils.clip_grad_norm_(net.parameters(), args.clip)
        opt.step()
        if "schedule-per-batch" in fault:
            milestones.step()
    if "schedule-per-batch" not in fault:
        milestones.step()
    net.eval()
    with torch.no_grad():
        right = [(net(sequence).argmax(1) == digit).float().mean().item() for sequence, digit in test]
        held_out = [loss_function(net(sequence), digit).item() for sequence, digit in test]
    print(epoch, f"{loss.item():.4f} {np.mean(held_out):.4f} {np.mean(right):.3f}")
