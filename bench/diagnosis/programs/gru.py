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
args = parser.parse_args()
fault = args.fault
torch.manual_seed(args.seed)
draw = np.random.default_rng(args.seed)

images, labels = load_digits(return_X_y=True)
sequences = images.reshape(-1, 8, 8).astype(np.float32)
sequences = sequences * 100 if fault == "raw-inputs" else sequences / 16
x_train, x_test, y_train, y_test = train_test_split(sequences, labels, test_size=0.25, random_state=0)
if fault == "shuffled-labels":
    y_train = draw.permutation(y_train)
if fault == "label-noise":
    wrong = draw.random(len(y_train)) < 0.4
    y_train[wrong] = (y_train[wrong] + draw.integers(1, 10, wrong.sum())) % 10
if fault == "nan-data":
    x_train[draw.integers(len(x_train)), 4, 4] = np.nan
if fault == "sorted":
    order = np.argsort(y_train, kind="stable")
    x_train, y_train = x_train[order], y_train[order]
train = DataLoader(
    TensorDataset(torch.tensor(x_train), torch.tensor(y_train)), args.batch, shuffle=fault != "sorted"
)
test = DataLoader(TensorDataset(torch.tensor(x_test), torch.tensor(y_test)), 256)


class Reader(nn.Module):
    def __init__(self):
        super().__init__()
        self.gru = nn.GRU(8, args.hidden, batch_first=True)
        self.drop = nn.Dropout(args.dropout)
        kind = nn.Sigmoid if fault == "deep-sigmoid" else nn.ReLU
        count = 9 if fault == "deep-sigmoid" else 1
        self.hidden = nn.Sequential(
            *(m for _ in range(count) for m in (nn.Linear(args.hidden, args.hidden), kind()))
        )
        self.head = nn.Linear(args.hidden, 10)

    def forward(self, x):
        states, _ = self.gru(x)
        last = states[:, -1]
        out = self.head(self.hidden(self.drop(last.detach() if fault == "detached" else last)))
        return torch.softmax(out, dim=1) if fault == "double-softmax" else out


net = Reader()
if fault == "dead-relu":
    nn.init.constant_(net.hidden[0].bias, -4.0)
if fault == "frozen":
    net.gru.weight_hh_l0.requires_grad_(False)
trained = [
    p
    for n, p in net.named_parameters()
    if p.requires_grad and not (fault == "forgotten" and n.startswith("gru"))
]
if args.optimizer == "sgd":
    opt = torch.optim.SGD(trained, lr=args.lr, momentum=0.9, weight_decay=args.weight_decay)
else:
    opt = torch.optim.Adam(trained, lr=args.lr, eps=args.eps, weight_decay=args.weight_decay)
milestones = torch.optim.lr_scheduler.MultiStepLR(opt, [6, 8], gamma=0.1 if args.schedule == "steps" else 1.0)
if fault == "schedule-per-batch":
    milestones = torch.optim.lr_scheduler.MultiStepLR(opt, [6, 8], gamma=0.05)
loss_function = nn.CrossEntropyLoss()

for epoch in range(args.epochs):
    net.train()
    for sequence, digit in train:
        if fault != "no-zero-grad":
            opt.zero_grad()
        loss = loss_function(net(sequence), digit)
        loss.backward()
        if args.clip:
            torch.nn.utils.clip_grad_norm_(net.parameters(), args.clip)
        opt.step()
        if fault == "schedule-per-batch":
            milestones.step()
    if fault != "schedule-per-batch":
        milestones.step()
    net.eval()
    with torch.no_grad():
        right = [(net(sequence).argmax(1) == digit).float().mean().item() for sequence, digit in test]
        held_out = [loss_function(net(sequence), digit).item() for sequence, digit in test]
    print(epoch, f"{loss.item():.4f} {np.mean(held_out):.4f} {np.mean(right):.3f}")
