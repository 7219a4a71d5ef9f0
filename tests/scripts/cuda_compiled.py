"""A model compiled by the default backend in bfloat16, which makes CUDA graphs behind the scenes."""

import torch
from ended import ended
from torch import nn

torch.manual_seed(0)
x, y = torch.randn(64, 32, device="cuda"), torch.randint(0, 4, (64,), device="cuda")
model = nn.Sequential(nn.Linear(32, 64), nn.GELU(), nn.LayerNorm(64), nn.Linear(64, 4)).cuda()
fast = torch.compile(model, mode="reduce-overhead")
optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, fused=True)

for _ in range(30):
    optimizer.zero_grad()
    with torch.autocast("cuda", dtype=torch.bfloat16):
        loss = nn.functional.cross_entropy(fast(x), y)
    loss.backward()
    optimizer.step()
    print(f"loss {loss.item():.6f}")
ended(model, optimizer, torch.cuda.get_rng_state())
