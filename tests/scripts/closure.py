"""An optimizer that is given a closure, as Lightning does it."""

import torch
from ended import ended
from torch import nn

torch.manual_seed(0)
x, y = torch.randn(128, 6), torch.randn(128, 1)
net = nn.Sequential(nn.Linear(6, 12), nn.Tanh(), nn.Dropout(0.2), nn.Linear(12, 1))
optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
criterion = nn.MSELoss()

for step in range(12):
    batch = slice(step * 10 % 120, step * 10 % 120 + 10)

    def closure():
        optimizer.zero_grad()
        loss = criterion(net(x[batch]), y[batch])
        loss.backward()
        return loss

    loss = optimizer.step(closure)
    print(f"loss {loss.item():.6f}")
ended(net, optimizer)
