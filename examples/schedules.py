"""A rate that grows over the first steps: the import, the schedule and its step.

Run: python examples/schedules.py
"""

from _digits import accuracy, data, network
from torch import nn, optim
from torch.utils.data import DataLoader

from vario.methods.schedules import GradualWarmup  # new

train, x_test, y_test = data()
model = network()
loader = DataLoader(train, batch_size=64, shuffle=True)
optimizer = optim.AdamW(model.parameters(), lr=2e-3)
schedule = GradualWarmup(optimizer, 10.0, warmup_steps=2 * len(loader))  # new
for _epoch in range(10):
    for x, y in loader:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
        schedule.step()  # new
print(f"accuracy {accuracy(model, x_test, y_test):.3f}")
