"""No modules at all: raw tensors, matrix products, and a loss of one's own."""

import torch
from ended import ended

torch.manual_seed(0)
x = torch.randn(100, 4)
y = torch.sin(x.sum(1, keepdim=True))
w1 = (0.5 * torch.randn(4, 16)).requires_grad_()
b1 = torch.zeros(16, requires_grad=True)
w2 = (0.5 * torch.randn(16, 1)).requires_grad_()
optimizer = torch.optim.Adam([w1, b1, w2], lr=0.02)
for _ in range(10):
    optimizer.zero_grad()
    loss = ((torch.relu(x @ w1 + b1) @ w2 - y) ** 2).mean()
    loss.backward()
    optimizer.step()
    print(f"loss {loss.item():.6f}")
ended({"w1": w1, "b1": b1, "w2": w2}, optimizer)
