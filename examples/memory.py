"""An activation that keeps three bits for the backward pass: the import and the model change.

Run: python examples/memory.py
"""

from _digits import accuracy, data, network
from torch import nn, optim
from torch.utils.data import DataLoader

from vario.methods.memory import FewBit  # new

train, x_test, y_test = data()
model = network(FewBit("gelu", bits=3, compile=False))  # was: nn.GELU()
loader = DataLoader(train, batch_size=64, shuffle=True)
optimizer = optim.AdamW(model.parameters(), lr=2e-3)
for _epoch in range(10):
    for x, y in loader:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
print(f"accuracy {accuracy(model, x_test, y_test):.3f}")
