"""An autoencoder of handwritten digits, as a user would write it."""

import argparse

import numpy as np
import torch
from mnist import mnist
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float, default=2e-3)
parser.add_argument("--epochs", type=int, default=6)
parser.add_argument("--batch", type=int, default=64)
parser.add_argument("--code", type=int, default=16)
parser.add_argument("--loss", default="mse")
parser.add_argument("--eps", type=float, default=1e-8)
parser.add_argument("--schedule", default="none")
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--fault", default="none")
parser.add_argument("--strength", type=float, default=1.0)
args = parser.parse_args()
fault = args.fault.split("+")
torch.manual_seed(args.seed)
draw = np.random.default_rng(args.seed)

x, y = mnist()
x = x / 255
train, test = x[:3000].copy(), x[4000:]
if "nan-data" in fault:
    train[draw.integers(len(train)), 300] = np.nan
if "sorted" in fault:
    train = train[np.argsort(y[:3000], kind="stable")]
train_loader = DataLoader(TensorDataset(torch.from_numpy(train)), args.batch, shuffle="sorted" not in fault)
test_images = torch.from_numpy(test)


class Autoencoder(nn.Module):
    def __init__(self, code):
        super().__init__()
        act = nn.Sigmoid if "deep-sigmoid" in fault else nn.ReLU
        extra = [m for _ in range(7 if "deep-sigmoid" in fault else 0) for m in (nn.Linear(64, 64), act())]
        self.encoder = nn.Sequential(
            nn.Linear(784, 128), act(), nn.Linear(128, 64), act(), *extra, nn.Linear(64, code)
        )
        self.decoder = nn.Sequential(nn.Linear(code, 128), act(), nn.Linear(128, 784))

    def forward(self, x):
        code = self.encoder(x)
        return self.decoder(code.detach() if "detached" in fault else code)


model = Autoencoder(args.code)
if "dead-relu" in fault:
    for layer in (model.encoder[0], model.encoder[2], model.decoder[0]):
        nn.init.constant_(layer.bias, -6.0 * args.strength)
if "frozen" in fault:
    model.encoder[0].requires_grad_(False)
parameters = (
    model.decoder.parameters() if "forgotten" in fault else [p for p in model.parameters() if p.requires_grad]
)
optimizer = torch.optim.Adam(parameters, lr=args.lr, eps=args.eps)
scheduler = torch.optim.lr_scheduler.ExponentialLR(
    optimizer, 0.8 if "schedule-per-batch" in fault or args.schedule != "none" else 1.0
)
criterion = nn.BCEWithLogitsLoss() if args.loss == "bce" else nn.MSELoss()

for epoch in range(args.epochs):
    for (images,) in train_loader:
        if "no-zero-grad" not in fault:
            optimizer.zero_grad()
        loss = criterion(model(images), images)
        loss.backward()
        optimizer.step()
        if "schedule-per-batch" in fault:
            scheduler.step()
    if "schedule-per-batch" not in fault:
        scheduler.step()
    with torch.no_grad():
        test_loss = criterion(model(test_images), test_images).item()
    print(f"epoch {epoch}: {loss.item():.5f} / {test_loss:.5f}")
