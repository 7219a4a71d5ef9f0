"""A compiled model that takes its own loss, as nanoGPT's does. The backend is the one that starts fast."""

import os

import torch
from ended import ended
from torch import nn

torch.manual_seed(0)
data = torch.randint(0, 12, (2000,)).cumsum(0) // 5 % 12


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.hidden, self.head = nn.Embedding(12, 16), nn.Linear(16, 16), nn.Linear(16, 12)

    def forward(self, tokens, targets=None):
        logits = self.head(torch.relu(self.hidden(self.embed(tokens))))
        if targets is None:
            return logits, None
        flat = logits.view(-1, logits.size(-1)), targets.view(-1)
        return logits, nn.functional.cross_entropy(*flat, ignore_index=-1)


def batch(tokens):
    starts = torch.randint(len(tokens) - 9, (16,)).tolist()
    return torch.stack([tokens[i : i + 8] for i in starts]), torch.stack(
        [tokens[i + 1 : i + 9] for i in starts]
    )


@torch.no_grad()
def evaluate():
    model.eval()
    losses = torch.tensor([model(*batch(data[1500:]))[1].item() for _ in range(5)])
    model.train()
    print(f"held {losses.mean().item():.6f}")


model = Model()
how = os.environ.get("COMPILED", "module")
if how == "module":
    model = torch.compile(model, backend="aot_eager")
elif how == "in place":
    model.compile(backend="aot_eager")
elif how == "part":
    model.hidden = torch.compile(model.hidden, backend="aot_eager")
optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
for step in range(12):
    if step % 4 == 0:
        evaluate()
    _, loss = model(*batch(data[:1500]))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    print(f"loss {loss.item():.6f}")
evaluate()
ended(model, optimizer)
