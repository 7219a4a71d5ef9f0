"""Six hundred digits, a tenth of them with a wrong label, learned by heart (P070)."""

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

sys.path.insert(0, str(Path(__file__).parent.parent / "programs"))
from mnist import mnist  # noqa: E402

parser = argparse.ArgumentParser()
parser.add_argument("--flip", type=float, default=0.1)
parser.add_argument("--models", type=int, default=0, help="score each example by so many on 70 % of them")
parser.add_argument("--steps", type=int, default=300)
args = parser.parse_args()
torch.manual_seed(0)
draw = np.random.default_rng(0)
x, y = (torch.from_numpy(values) for values in mnist())
x = x / 255
x, y, x_test, y_test = x[:600], y[:600].clone(), x[600:], y[600:]
flipped = torch.from_numpy(draw.random(600) < args.flip)
y[flipped] = (y[flipped] + torch.from_numpy(draw.integers(1, 10, int(flipped.sum())))) % 10


def train(chosen):
    model = nn.Sequential(nn.Linear(784, 64), nn.ReLU(), nn.Linear(64, 10))
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for step in range(args.steps):
        rows = chosen[torch.randint(len(chosen), (64,))]
        loss = F.cross_entropy(model(x[rows]), y[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if not args.models and step % 30 == 29:
            with torch.no_grad():
                out = model(x_test)
                test = F.cross_entropy(out, y_test)
            print(f"step {step} loss {loss.item():.4f} test loss {test.item():.4f}")
    with torch.no_grad():
        return model(x).argmax(1) == y, (model(x_test).argmax(1) == y_test).float().mean().item()


if not args.models:
    fitted, accuracy = train(torch.arange(600))
    print(f"train accuracy: {fitted.float().mean().item()}")
    print(f"test accuracy: {accuracy}")
else:
    inside, right = torch.zeros(2, args.models, 600)
    for k in range(args.models):
        chosen = torch.randperm(600)[:420]
        inside[k, chosen] = 1
        right[k] = train(chosen)[0].float()
    with_it = (right * inside).sum(0) / inside.sum(0)
    score = with_it - (right * (1 - inside)).sum(0) / (1 - inside).sum(0)
    wrong, clean = score[flipped], score[~flipped]
    above = (wrong[:, None] > clean).float() + 0.5 * (wrong[:, None] == clean).float()
    print(f"AUROC of memorization: {above.mean().item()}")
    print(f"memorization, flipped over clean: {(wrong.mean() / clean.mean()).item()}")
