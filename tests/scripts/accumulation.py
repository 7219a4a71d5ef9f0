"""Four micro-batches to a step; each loss is divided by four, the undivided mean is printed."""

import torch
from ended import ended
from torch import nn
from torch.nn.utils import clip_grad_norm_
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
data = TensorDataset(torch.randn(320, 8), torch.randint(0, 3, (320,)))
loader = DataLoader(data, batch_size=10)
model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))
optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=16)
criterion = nn.CrossEntropyLoss()
parts = 4

for epoch in range(2):
    total = 0.0
    for number, (inputs, targets) in enumerate(loader):
        loss = criterion(model(inputs), targets)
        total += loss.item()
        (loss / parts).backward()
        if (number + 1) % parts == 0:
            norm = clip_grad_norm_(model.parameters(), 0.1)
            optimizer.step()
            optimizer.zero_grad()
            scheduler.step()
            print(f"loss {total / parts:.6f} norm {norm:.6f}")
            total = 0.0
ended(model, optimizer)
