"""Two models, two optimizers: a generator and a discriminator of numbers."""

import torch
from ended import ended
from torch import nn

torch.manual_seed(0)
netG = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 2))
netD = nn.Sequential(nn.Linear(2, 16), nn.LeakyReLU(0.2), nn.Linear(16, 1), nn.Sigmoid())
optimizerD = torch.optim.Adam(netD.parameters(), lr=0.002, betas=(0.5, 0.999))
optimizerG = torch.optim.Adam(netG.parameters(), lr=0.001, betas=(0.5, 0.999))
criterion = nn.BCELoss()

for step in range(10):
    netD.zero_grad()
    real = torch.randn(32, 2) + 3
    loss_real = criterion(netD(real).view(-1), torch.ones(32))
    loss_real.backward()
    fake = netG(torch.randn(32, 4))
    loss_fake = criterion(netD(fake.detach()).view(-1), torch.zeros(32))
    loss_fake.backward()
    optimizerD.step()
    netG.zero_grad()
    loss_g = criterion(netD(fake).view(-1), torch.ones(32))
    loss_g.backward()
    optimizerG.step()
    print(f"D {(loss_real.item() + loss_fake.item()) / 2:.6f} G {loss_g.item():.6f}")
ended(netG, netD, optimizerG, optimizerD)
