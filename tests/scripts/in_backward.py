"""One optimizer for each parameter, stepped while the backward runs, to save memory."""

import torch
from ended import ended
from torch import nn

torch.manual_seed(0)
x, y = torch.randn(64, 6), torch.randn(64, 1)
model = nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 1))
optimizers = {p: torch.optim.Adam([p], lr=0.01) for p in model.parameters()}


def step_now(parameter):
    optimizers[parameter].step()
    optimizers[parameter].zero_grad()


for parameter in model.parameters():
    parameter.register_post_accumulate_grad_hook(step_now)
for _ in range(8):
    loss = nn.functional.mse_loss(model(x), y)
    loss.backward()
    print(f"loss {loss.item():.6f}")
ended(model, *optimizers.values())
