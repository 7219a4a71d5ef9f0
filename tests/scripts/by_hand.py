"""Stochastic gradient descent written by hand, with clipping, as in older language models."""

import torch
from ended import ended
from torch import nn

torch.manual_seed(0)
lr = 0.5
x, y = torch.randn(80, 6), torch.randint(0, 3, (80,))
model = nn.Sequential(nn.Linear(6, 10), nn.Tanh(), nn.Linear(10, 3))
criterion = nn.CrossEntropyLoss()

for step in range(9):
    model.zero_grad()
    loss = criterion(model(x), y)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 0.25)
    for p in model.parameters():
        p.data.add_(p.grad, alpha=-lr)
    print(f"loss {loss.item():.6f}")
ended(model)
