"""The step of an optimizer, compiled, as torch's tutorial has it. The backend is the one that starts fast."""

import torch
from ended import ended
from torch import nn

torch.manual_seed(0)
x, y = torch.randn(64, 8), torch.randint(0, 3, (64,))
model = nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 3))
optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)


@torch.compile(backend="aot_eager")
def update():
    optimizer.step()


for step in range(8):
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(model(x), y)
    loss.backward()
    update()
    print(f"loss {loss.item():.6f}")
ended(model, optimizer)
