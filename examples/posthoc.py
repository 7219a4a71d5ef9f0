"""Probabilities that can be believed, after training: the import and one line are added.

Run: python examples/posthoc.py
"""

from _digits import accuracy, data, network
from torch import nn, optim
from torch.utils.data import DataLoader

from vario.methods.posthoc import temperature_scaling  # new

train, x_test, y_test = data()
model = network()
loader = DataLoader(train, batch_size=64, shuffle=True)
optimizer = optim.AdamW(model.parameters(), lr=2e-3)
for _epoch in range(10):
    for x, y in loader:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
model = temperature_scaling(model, x_test[:200], y_test[:200])  # new: held-out examples
print(f"accuracy {accuracy(model, x_test, y_test):.3f}")
