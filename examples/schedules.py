"""A batch four times as large, and the optimizer's settings brought along: the import and one line.

Run: python examples/schedules.py
"""

from _digits import accuracy, data, network
from torch import nn, optim
from torch.utils.data import DataLoader

from vario.methods.schedules import scale_batch  # new

train, x_test, y_test = data()
model = network()
loader = DataLoader(train, batch_size=128, shuffle=True)  # the settings below were found with 32
optimizer = optim.AdamW(model.parameters(), lr=2e-3)
print(*scale_batch(optimizer, 4), sep="\n")  # new
for _epoch in range(10):
    for x, y in loader:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
print(f"accuracy {accuracy(model, x_test, y_test):.3f}")
