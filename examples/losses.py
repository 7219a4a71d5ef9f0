"""Another loss: the import and the call change.

Run: python examples/losses.py
"""

from _digits import accuracy, data, network
from torch import optim
from torch.utils.data import DataLoader

from vario.methods.losses import StableMaxLoss  # new

train, x_test, y_test = data()
model = network()
loader = DataLoader(train, batch_size=64, shuffle=True)
optimizer = optim.AdamW(model.parameters(), lr=2e-3)
for _epoch in range(10):
    for x, y in loader:
        optimizer.zero_grad()
        StableMaxLoss()(model(x), y).backward()  # was: nn.functional.cross_entropy(model(x), y)
        optimizer.step()
print(f"accuracy {accuracy(model, x_test, y_test):.3f}")
