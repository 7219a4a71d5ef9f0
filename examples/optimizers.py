"""Another optimizer: the import and the constructor change.

Run: python examples/optimizers.py
"""

from _digits import accuracy, data, network
from torch import nn
from torch.utils.data import DataLoader

from vario.methods.optimizers import AdamAtan2  # new

train, x_test, y_test = data()
model = network()
loader = DataLoader(train, batch_size=64, shuffle=True)
optimizer = AdamAtan2(model.parameters(), lr=2e-3)  # was: optim.AdamW(...)
for _epoch in range(10):
    for x, y in loader:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
print(f"accuracy {accuracy(model, x_test, y_test):.3f}")
