"""A small GAN of 8x8 digits, as a user would write it: two models, two optimizers."""

import argparse

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float, default=5e-4)
parser.add_argument("--epochs", type=int, default=20)
parser.add_argument("--batch", type=int, default=64)
parser.add_argument("--noise", type=int, default=16)
parser.add_argument("--beta1", type=float, default=0.5)
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--fault", default="none")
args = parser.parse_args()
fault = args.fault.split("+")
torch.manual_seed(args.seed)

images = torch.tensor(load_digits().data, dtype=torch.float32) / 8 - 1
if "nan-data" in fault:
    images[7, 7] = float("nan")
loader = DataLoader(TensorDataset(images), args.batch, shuffle=True, drop_last=True)
netG = nn.Sequential(
    nn.Linear(args.noise, 64), nn.ReLU(), nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 64), nn.Tanh()
)
netD = nn.Sequential(
    nn.Linear(64, 128), nn.LeakyReLU(0.2), nn.Linear(128, 64), nn.LeakyReLU(0.2), nn.Linear(64, 1)
)
if "frozen" in fault:
    netD[0].requires_grad_(False)
optimizerD = torch.optim.Adam(
    [p for p in netD.parameters() if p.requires_grad], lr=args.lr, betas=(args.beta1, 0.999)
)
optimizerG = torch.optim.Adam(netG.parameters(), lr=args.lr, betas=(args.beta1, 0.999))
criterion = nn.BCEWithLogitsLoss()

for epoch in range(args.epochs):
    for (real,) in loader:
        fake = netG(torch.randn(len(real), args.noise))
        if "no-zero-grad" not in fault:
            optimizerD.zero_grad()
        lossD = criterion(netD(real), torch.ones(len(real), 1)) + criterion(
            netD(fake.detach()), torch.zeros(len(real), 1)
        )
        lossD.backward()
        optimizerD.step()
        if "no-zero-grad" not in fault:
            optimizerG.zero_grad()
        lossG = criterion(netD(fake), torch.ones(len(real), 1))
        lossG.backward()
        optimizerG.step()
    print(f"{epoch} D {lossD.item():.3f} G {lossG.item():.3f}")
