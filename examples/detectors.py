"""Strange inputs get a higher score: the import and one line are added after training.

Run: python examples/detectors.py
"""

from _digits import accuracy, data, network
from torch import nn, optim
from torch.utils.data import DataLoader

from vario.methods.detectors import MahalanobisDetector  # new

train, x_test, y_test = data()
model = network()
loader = DataLoader(train, batch_size=64, shuffle=True)
optimizer = optim.AdamW(model.parameters(), lr=2e-3)
for _epoch in range(10):
    for x, y in loader:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
detector = MahalanobisDetector().fit(model[:2](train.tensors[0]).detach(), train.tensors[1])  # new
usual = detector.score(model[:2](x_test).detach()).median()
strange = detector.score(model[:2](1 - x_test).detach()).median()
print(f"accuracy {accuracy(model, x_test, y_test):.3f}, negatives are {strange / usual:.1f} times as strange")
