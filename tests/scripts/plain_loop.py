"""A plain loop: a small net on made-up data, evaluated after each epoch."""

import torch
import torch.nn.functional as F
from ended import ended
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
x = torch.randn(256, 10)
y = (x[:, 0] + 0.3 * torch.randn(256) > 0).long()
train_loader = DataLoader(TensorDataset(x[:192], y[:192]), batch_size=32, shuffle=True)
test_loader = DataLoader(TensorDataset(x[192:], y[192:]), batch_size=32)
model = nn.Sequential(nn.Linear(10, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.1), nn.Linear(16, 2))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

for epoch in range(3):
    model.train()
    for data, target in train_loader:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(data), target)
        loss.backward()
        optimizer.step()
        print(f"loss {loss.item():.6f}")
    model.eval()
    total, right = 0.0, 0
    with torch.no_grad():
        for data, target in test_loader:
            output = model(data)
            total += F.cross_entropy(output, target, reduction="sum").item()
            right += (output.argmax(1) == target).sum().item()
    print(f"test loss {total / 64:.6f} accuracy {right / 64:.6f}")
ended(model, optimizer)
