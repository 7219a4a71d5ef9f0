"""LBFGS: many evaluations and moves of the weights inside one step."""

import torch
from ended import ended
from torch import nn

torch.manual_seed(0)
x = torch.randn(200, 5, dtype=torch.float64)
y = x @ torch.randn(5, 1, dtype=torch.float64) + 0.1 * torch.randn(200, 1, dtype=torch.float64)
model = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 1)).double()
optimizer = torch.optim.LBFGS(model.parameters(), lr=0.5, max_iter=10)
criterion = nn.MSELoss()


def closure():
    optimizer.zero_grad()
    loss = criterion(model(x), y)
    loss.backward()
    return loss


for _ in range(5):
    print(f"loss {optimizer.step(closure).item():.6f}")
ended(model, optimizer)
