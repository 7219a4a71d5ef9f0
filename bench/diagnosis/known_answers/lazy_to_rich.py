"""A quadratic target, from kernel regression to features: the lazier, the later the test falls (P072)."""

import argparse

import torch
import torch.nn.functional as F
from torch import nn

parser = argparse.ArgumentParser()
parser.add_argument("--alpha", type=float, default=1.0)
parser.add_argument("--steps", type=int, default=3000)
parser.add_argument("--lr", type=float, default=0.5)
args = parser.parse_args()
torch.manual_seed(0)
D, P, N, EPSILON = 50, 400, 200, 0.25


class Net(nn.Module):
    """(alpha / N) sum of phi(w x) less what it gave at first, phi(h) = h + epsilon / 2 h^2."""

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.randn(N, D))
        self.register_buffer("w0", self.w.detach().clone())

    def output(self, x, w):
        h = x @ w.T / D**0.5
        return args.alpha / N * (h + EPSILON / 2 * h**2).sum(1)

    def forward(self, x):
        return self.output(x, self.w) - self.output(x, self.w0)


beta = F.normalize(torch.randn(D), dim=0)
x, x_test = torch.randn(P, D), torch.randn(1000, D)
y, y_test = ((v @ beta) ** 2 / 2 for v in (x, x_test))
model = Net()
optimizer = torch.optim.SGD(model.parameters(), lr=args.lr * N / args.alpha**2)
reached, alignments = {}, {}


def alignment():
    """Centred, of the tangent kernel (here in closed form) with the targets."""
    with torch.no_grad():
        slope = 1 + EPSILON * (x @ model.w.T) / D**0.5  # (P, N): phi'(h)
        kernel = (slope @ slope.T) * (x @ x.T)
        kernel = kernel - kernel.mean(0) - kernel.mean(1, keepdim=True) + kernel.mean()
        centred = y - y.mean()
        return (centred @ kernel @ centred / (centred @ centred * kernel.norm())).item()


start = alignment()
for step in range(args.steps):
    loss = F.mse_loss(model(x), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 10 == 0:
        with torch.no_grad():
            test = F.mse_loss(model(x_test), y_test)
        for name, value in (("train", loss.item()), ("test", test.item())):
            if value < 0.1 and name not in reached:
                reached[name], alignments[name] = step, alignment()
        print(f"step {step} loss {loss.item():.4f} test loss {test.item():.4f}")
    if "test" in reached and step >= 2.5 * reached["test"]:
        break
print(f"delay: {reached['test'] / reached['train']}")
print(f"alignment over that when training was fitted: {alignments['test'] / alignments['train']}")
print(f"alignment over that at the start: {alignments['test'] / start}")
moved = (model.w - model.w0).norm() / model.w0.norm()
print(f"relative movement of the weights: {moved.item()}")
