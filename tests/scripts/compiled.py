"""A compiled model. The backend is the one that starts fast; what is seen of it is the same."""

import torch
from ended import ended
from torch import nn

torch.manual_seed(0)
x, y = torch.randn(64, 8), torch.randint(0, 3, (64,))
model = nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 3))
fast = torch.compile(model, backend="aot_eager")
optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)

for step in range(8):
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(fast(x), y)
    loss.backward()
    optimizer.step()
    print(f"loss {loss.item():.6f}")
ended(model, optimizer)
