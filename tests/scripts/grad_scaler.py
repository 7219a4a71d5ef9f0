"""Mixed precision with a GradScaler whose first scale is too large: some steps are skipped."""

import torch
from ended import ended
from torch import nn

torch.manual_seed(0)
x, y = 40 * torch.randn(64, 8), torch.randint(0, 4, (64,))
model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 4))
optimizer = torch.optim.SGD(model.parameters(), lr=0.001)
scaler = torch.amp.GradScaler("cpu", init_scale=2.0**127, growth_interval=5)
criterion = nn.CrossEntropyLoss()
skipped = 0

for step in range(12):
    optimizer.zero_grad()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = criterion(model(x), y)
    scaler.scale(loss).backward()
    scaler.unscale_(optimizer)
    scaler.step(optimizer)
    before = scaler.get_scale()
    scaler.update()
    if scaler.get_scale() < before:
        skipped += 1
        print("skipped")
    else:
        print(f"loss {loss.item():.6f}")
ended(model, optimizer, scaler)
