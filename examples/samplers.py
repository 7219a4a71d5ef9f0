"""Classes drawn equally often: the import and the loader change.

Run: python examples/samplers.py
"""

from _digits import accuracy, data, network
from torch import nn, optim
from torch.utils.data import DataLoader

from vario.methods.samplers import ImbalanceSampler  # new

train, x_test, y_test = data()
model = network()
loader = DataLoader(train, batch_size=64, sampler=ImbalanceSampler(train.tensors[1]))  # was: shuffle=True
optimizer = optim.AdamW(model.parameters(), lr=2e-3)
for _epoch in range(10):
    for x, y in loader:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
print(f"accuracy {accuracy(model, x_test, y_test):.3f}")
