"""A model that is called twice in every step, on two views of the data."""

import torch
from ended import ended
from torch import nn

torch.manual_seed(0)
x = torch.randn(64, 6)
encoder = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 4))
optimizer = torch.optim.SGD(encoder.parameters(), lr=0.05)
for _ in range(7):
    optimizer.zero_grad()
    first = encoder(x + 0.1 * torch.randn_like(x))
    second = encoder(x + 0.1 * torch.randn_like(x))
    loss = nn.functional.mse_loss(first, second) + 0.1 * (first.std(0) - 1).square().mean()
    loss.backward()
    optimizer.step()
    print(f"loss {loss.item():.6f}")
ended(encoder, optimizer)
