"""The strength of regularization learned from the training set alone.

Four lines where the other pages change two: what is learned in training has to reach the optimizer, the
prediction and the loss, each in its own line.

Run: python examples/hpo.py
"""

from _digits import accuracy, data, network
from torch import nn, optim
from torch.utils.data import DataLoader

from vario.methods.hpo import DataEmphasizedELBO  # new

train, x_test, y_test = data()
model = network()
elbo = DataEmphasizedELBO(model, examples=len(train))  # new
loader = DataLoader(train, batch_size=64, shuffle=True)
optimizer = optim.Adam([*model.parameters(), *elbo.parameters()], lr=2e-3)  # was: model.parameters()
for _epoch in range(10):
    for x, y in loader:
        optimizer.zero_grad()
        elbo(nn.functional.cross_entropy(elbo.predict(x), y)).backward()  # was: cross_entropy(model(x), y)
        optimizer.step()
print(f"weights' variance before any data, as learned: {elbo.prior_variances()[0]:.4f}")
print(f"accuracy {accuracy(model, x_test, y_test):.3f}")
