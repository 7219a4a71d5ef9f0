"""Mixed precision with a GradScaler and a fused optimizer, which is called even where the step is skipped."""

import torch
from ended import ended
from torch import nn

torch.manual_seed(0)
device = "cuda" if torch.cuda.is_available() else "cpu"
x, y = 40 * torch.randn(64, 8), torch.randint(0, 4, (64,))
x, y = x.to(device), y.to(device)
model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 4)).to(device)
optimizer = torch.optim.AdamW(model.parameters(), lr=0.001, fused=True)
scaler = torch.amp.GradScaler(device, init_scale=2.0**127, growth_interval=5)

for step in range(12):
    optimizer.zero_grad()
    with torch.autocast(device, dtype=torch.bfloat16):
        loss = nn.functional.cross_entropy(model(x), y)
    scaler.scale(loss).backward()
    scaler.step(optimizer)
    before = scaler.get_scale()
    scaler.update()
    print("skipped" if scaler.get_scale() < before else f"loss {loss.item():.6f}")
ended(model, optimizer, scaler)
