"""A tiny language model whose output weights are those of its embedding."""

import torch
from ended import ended
from torch import nn


class Model(nn.Module):
    """Embedding, one hidden layer, output tied to the embedding."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(20, 8)
        self.hidden = nn.Linear(8, 8)
        self.head = nn.Linear(8, 20, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, tokens):
        return self.head(torch.relu(self.hidden(self.embed(tokens))))


torch.manual_seed(0)
tokens = torch.randint(0, 20, (16, 9))
lm = Model()
optimizer = torch.optim.SGD(lm.parameters(), lr=0.5)
for _ in range(6):
    optimizer.zero_grad()
    output = lm(tokens[:, :-1])
    loss = nn.functional.cross_entropy(output.reshape(-1, 20), tokens[:, 1:].reshape(-1))
    loss.backward()
    optimizer.step()
    print(f"loss {loss.item():.6f}")
ended(lm, optimizer)
